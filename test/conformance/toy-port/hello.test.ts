/** A toy domain under each scheduler: console_io, the console ring, XenStore over the ring, what the builder and the toolstack left it. */
import { describe, expect, test } from "vitest";
import * as xen from "../../../core/abi/index.ts";
import { TOY_ABI } from "./image.ts";
import { Assembler, ToyMachine } from "./machine.ts";
import { begin, copy, notify, wait } from "./snippets.ts";

const H = xen.__HYPERVISOR;

describe.each(["credit", "round-robin"])("a toy domain under %s", (scheduler) => {
  test("says hello by console_io", async () => {
    const toy = await ToyMachine.boot({ scheduler });
    const p = new Assembler();
    p.text("text", "hello from the toy\n");
    p.hypercall(H.console_io, [xen.CONSOLEIO.write, 19, "text"], "written").shutdown();
    let out = "";
    const guest = await toy.create("hello", p);
    guest.domain.onConsoleWrite = (bytes) => {
      out += String.fromCharCode(...bytes);
    };
    toy.hypervisor.unpause(guest.domain);
    expect(await toy.run({ end: [guest] })).toBe("done");
    expect(out).toBe("hello from the toy\n");
    expect(toy.word(guest, "written")).toBe(0);
    expect(guest.domain.shutdownReason).toBe(xen.SHUTDOWN.poweroff);
    expect(toy.log).toContain("(d1) hello from the toy");
    expect(toy.hypervisor.scheduling.pools[0]!.faults).toEqual([]);
  });

  test("several domains on several pCPUs, each to its end", async () => {
    const toy = await ToyMachine.boot({ scheduler, pcpus: 3 });
    const guests = [];
    for (let i = 0; i < 7; i++) {
      const p = new Assembler();
      p.data("sum", 4);
      p.loop(7, 20_000 * (i + 1), () => p.addi(8, 8, 3));
      guests.push(await toy.start(`d${i}`, p.store(8, "sum").shutdown(i % 2)));
    }
    expect(await toy.run({ end: guests })).toBe("done");
    guests.forEach((guest, i) => {
      expect(toy.word(guest, "sum")).toBe(60_000 * (i + 1));
      expect(guest.domain.shutdownReason).toBe(i % 2);
    });
    expect(toy.hypervisor.scheduling.pools[0]!.faults).toEqual([]);
  });
});

describe("the console ring", () => {
  const { fields } = xen.xencons_interface.at(TOY_ABI);

  /** Appends text to the output ring, whose address is in "console ring", and notifies. */
  const put = (p: Assembler, text: string): void => {
    p.load(8, "console ring").lw(9, 8, fields["out_prod"].offset);
    for (const char of text) {
      p.li(12, 2047).alu("and", 12, 9, 12).alu("add", 12, 12, 8).li(13, char.charCodeAt(0));
      p.sb(13, 12, fields["out"].offset).addi(9, 9, 1);
    }
    p.sw(9, 8, fields["out_prod"].offset);
    notify(p, "console port");
  };

  test("output, then input that wakes the guest, in big-endian order", async () => {
    const toy = await ToyMachine.boot();
    const p = begin(new Assembler());
    put(p, "ring up\n");
    p.data("input", 4);
    p.label("again");
    wait(p, "console port");
    p.load(8, "console ring").lw(9, 8, fields["in_prod"].offset).lw(10, 8, fields["in_cons"].offset);
    p.beq(9, 10, "again").lb(9, 8, fields["in"].offset).store(9, "input");
    put(p, "done\n");
    const guest = await toy.start("con", p.shutdown(), { devices: [{ type: "console", spec: "" }] });
    const terminal = toy.terminal(guest.domain);
    expect(await toy.run()).toBe("idle");
    expect(terminal.output).toBe("ring up\n");
    toy.hypervisor.inject(() => terminal.type("x"));
    expect(await toy.run({ end: [guest] })).toBe("done");
    expect(toy.word(guest, "input")).toBe("x".charCodeAt(0));
    expect(terminal.output).toBe("ring up\ndone\n");
    expect(guest.domain.shutdownReason).toBe(xen.SHUTDOWN.poweroff);
  });

  test("a console of its own for each of two domains", async () => {
    const toy = await ToyMachine.boot({ pcpus: 2 });
    const guests = [];
    for (const name of ["one", "two"]) {
      const p = begin(new Assembler());
      put(p, `I am ${name}`);
      guests.push(await toy.start(name, p.shutdown(), { devices: [{ type: "console", spec: "" }] }));
    }
    expect(await toy.run({ end: guests })).toBe("done");
    expect(guests.map((guest) => toy.terminal(guest.domain).output)).toEqual(["I am one", "I am two"]);
  });
});

describe("XenStore over the ring", () => {
  const PAGE = xen.XENSTORE_INTERFACE;

  /** A request with a big-endian header. */
  const request = (type: number, id: number, ...strings: string[]): Uint8Array => {
    const payload = new TextEncoder().encode(
      strings.map((s) => (type === xen.XS.WRITE && s === strings.at(-1) ? s : `${s}\0`)).join(""),
    );
    const bytes = new Uint8Array(xen.XSD_SOCKMSG.size + payload.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(xen.XSD_SOCKMSG.type, type);
    view.setUint32(xen.XSD_SOCKMSG.reqId, id);
    view.setUint32(xen.XSD_SOCKMSG.len, payload.length);
    bytes.set(payload, xen.XSD_SOCKMSG.size);
    return bytes;
  };

  /** Sends requests one by one, waiting for an answer to each, then shuts down. */
  const client = (requests: readonly Uint8Array[]): Assembler => {
    const p = begin(new Assembler());
    let at = 0;
    for (const [i, bytes] of requests.entries()) {
      p.data(`request ${i}`, bytes);
      p.load(7, "store ring");
      copy(p, `request ${i}`, { reg: 7 }, PAGE.req + at, bytes.length);
      at += bytes.length;
      p.li(8, at).sw(8, 7, PAGE.reqProd);
      notify(p, "store port");
      p.label(`wait ${i}`);
      wait(p, "store port");
      p.load(7, "store ring").li(8, at).lw(9, 7, PAGE.reqCons).bne(8, 9, `wait ${i}`);
    }
    return p.shutdown();
  };

  interface Answer {
    readonly type: number;
    readonly id: number;
    readonly text: string;
  }

  /** All messages in the answer ring, which has not wrapped. */
  const answers = (view: DataView): Answer[] => {
    const list: Answer[] = [];
    for (let at = PAGE.rsp; at < PAGE.rsp + view.getUint32(PAGE.rspProd); ) {
      const length = view.getUint32(at + xen.XSD_SOCKMSG.len);
      const text = new Uint8Array(view.buffer, at + xen.XSD_SOCKMSG.size, length);
      list.push({
        type: view.getUint32(at + xen.XSD_SOCKMSG.type),
        id: view.getUint32(at + xen.XSD_SOCKMSG.reqId),
        text: String.fromCharCode(...text),
      });
      at += xen.XSD_SOCKMSG.size + length;
    }
    return list;
  };

  test("reads, writes, watches", async () => {
    const toy = await ToyMachine.boot();
    const { XS } = xen;
    const p = client([
      request(XS.READ, 1, "name"),
      request(XS.WRITE, 2, "data/x", "42"),
      request(XS.WATCH, 3, "data", "token"),
      request(XS.WRITE, 4, "data/x", "43"),
      request(XS.READ, 5, "nowhere"),
      request(XS.READ, 6, "/local/domain/0/name"),
    ]);
    const guest = await toy.runProgram(p);
    const ring = toy.read(guest, toy.words(guest, "store ring", 1)[0]!, 4096);
    expect(answers(ring)).toEqual([
      { type: XS.READ, id: 1, text: "toy" },
      { type: XS.WRITE, id: 2, text: "OK\0" },
      { type: XS.WATCH, id: 3, text: "OK\0" },
      { type: XS.WATCH_EVENT, id: 0, text: "data\0token\0" },
      { type: XS.WATCH_EVENT, id: 0, text: "data/x\0token\0" },
      { type: XS.WRITE, id: 4, text: "OK\0" },
      { type: XS.ERROR, id: 5, text: "ENOENT\0" },
      { type: XS.ERROR, id: 6, text: "EACCES\0" },
    ]);
    expect(toy.hypervisor.store.client.read("/local/domain/1/data/x")).toBe("43");
  });

  test("domain 0's writes reach a guest's watch", async () => {
    const toy = await ToyMachine.boot();
    const p = client([request(xen.XS.WATCH, 1, "control/shutdown", "t")]);
    const guest = await toy.start("watch", p);
    await toy.run({ end: [guest] });
    toy.hypervisor.store.client.write(`/local/domain/${guest.domain.id}/control/shutdown`, "poweroff");
    await toy.run({ until: toy.hypervisor.machine.now + 1e6 });
    const ring = toy.read(guest, toy.words(guest, "store ring", 1)[0]!, 4096);
    expect(answers(ring).map((a) => a.type)).toEqual([xen.XS.WATCH, xen.XS.WATCH_EVENT, xen.XS.WATCH_EVENT]);
  });

  test("the nodes that a domain finds name its rings as it names frames", async () => {
    const toy = await ToyMachine.boot();
    const guest = await toy.runProgram(begin(new Assembler()).shutdown(), {
      devices: [{ type: "console", spec: "" }],
      extra: "root=/dev/toy",
      uuid: "01234567-89ab-cdef-0123-456789abcdef",
    });
    const { client: store } = toy.hypervisor.store;
    const home = `/local/domain/${guest.domain.id}`;
    const frame = (place: string): string => String(toy.words(guest, place, 1)[0]! / 4096);
    expect(store.read(`${home}/store/ring-ref`)).toBe(frame("store ring"));
    expect(store.read(`${home}/console/ring-ref`)).toBe(frame("console ring"));
    expect(store.read(`${home}/store/port`)).toBe(String(toy.word(guest, "store port")));
    expect(store.read(`${home}/console/port`)).toBe(String(toy.word(guest, "console port")));
    expect(store.read(`${home}/memory/target`)).toBe("1024");
    expect(store.read(`${home}/vm`)).toBe("/vm/01234567-89ab-cdef-0123-456789abcdef");
    const line = toy.read(guest, toy.words(guest, "command line", 1)[0]!, 13);
    expect(String.fromCharCode(...new Uint8Array(line.buffer))).toBe("root=/dev/toy");
  });
});
