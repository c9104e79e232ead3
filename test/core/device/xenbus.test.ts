import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { parseXenbusState, XenbusHandshake } from "../../../core/device/xenbus.ts";
import type { XenStoreClient } from "../../../core/xenstore/client.ts";
import { XenStoreService } from "../../../core/xenstore/service.ts";

const frontend = "/local/domain/1/device/vbd/51712";
const backend = "/local/domain/0/backend/vbd/1/51712";

let service: XenStoreService;
let dom0: XenStoreClient;
let calls: string[];
let states: number[];
let held: Promise<void>[];
let device: { probe(): void; connect(): void | Promise<void>; disconnect(): void | Promise<void> };

beforeEach(() => {
  service = new XenStoreService();
  dom0 = service.client();
  calls = [];
  states = [];
  held = [];
  device = {
    probe: () => void calls.push("probe"),
    connect: () => void calls.push("connect"),
    disconnect: () => void calls.push("disconnect"),
  };
  dom0.write(`${frontend}/state`, "1");
  dom0.write(`${backend}/state`, "1");
  dom0.write(`${backend}/online`, "1");
});

function start(): XenbusHandshake {
  const handshake = new XenbusHandshake(device, {
    client: dom0,
    frontend,
    backend,
    hold: (work) => held.push(work),
    stateChanged: (_, to) => states.push(to),
    ended: () => calls.push("ended"),
  });
  handshake.start();
  service.deliver();
  return handshake;
}

function front(state: number): number {
  dom0.write(`${frontend}/state`, String(state));
  service.deliver();
  return Number(dom0.read(`${backend}/state`));
}

describe("the handshake", () => {
  it("goes as in the recording: 1, 2, 3 to 4, 4, 5, 6", () => {
    start();
    expect(dom0.read(`${backend}/state`)).toBe("2");
    expect(front(3)).toBe(4);
    expect(front(4)).toBe(4);
    expect(front(5)).toBe(5);
    expect(front(6)).toBe(6);
    expect(calls).toEqual(["probe", "connect", "disconnect"]);
    expect(states).toEqual([2, 4, 5, 6]);
  });
  it("a frontend may go from 1 to 4, or be at 3 before we start", () => {
    start();
    expect(front(4)).toBe(4);
    dom0.write(`${backend}/state`, "1");
    const early = start();
    expect(early.state).toBe(4);
  });
  it("nothing happens inside the frontend's write", () => {
    start();
    dom0.write(`${frontend}/state`, "3");
    expect(calls).toEqual(["probe"]);
    service.deliver();
    expect(calls).toEqual(["probe", "connect"]);
  });
  it.each([
    ["5, 6, 1", [5, 6, 1], 2],
    ["6, 1", [6, 1], 2],
    ["5, 1", [5, 1], 2],
    ["1 without closing", [1], 2],
    ["6, then 3 at once", [6, 3], 4],
    ["5, 6, 1, 3, 4", [5, 6, 1, 3, 4], 4],
    ["nonsense", [2, 7, 8, 0, 9, 4], 4],
  ])("reconnect by %s", (_, sequence, end) => {
    const handshake = start();
    front(4);
    let last = 0;
    for (const state of sequence) last = front(state);
    expect(last).toBe(end);
    expect(handshake.connected).toBe(end === 4);
    const turns = calls.filter((call) => call === "connect" || call === "disconnect");
    for (const [index, call] of turns.entries()) expect(call).toBe(index % 2 === 0 ? "connect" : "disconnect");
  });
  it("states that are no numbers are ignored", () => {
    start();
    for (const text of ["", "x", "33", "-1", "4 ", "\u{1F4BE}"]) {
      expect(parseXenbusState(text)).toBe(0);
      dom0.write(`${frontend}/state`, text);
      service.deliver();
    }
    expect(calls).toEqual(["probe"]);
  });
});

describe("an end", () => {
  it("by detach of a connected device waits for the frontend", () => {
    const handshake = start();
    front(4);
    handshake.detach();
    service.deliver();
    expect(dom0.read(`${backend}/online`)).toBe("0");
    expect(dom0.read(`${backend}/state`)).toBe("5");
    expect(calls).toEqual(["probe", "connect"]);
    expect(front(5)).toBe(5);
    expect(front(6)).toBe(6);
    expect(calls).toEqual(["probe", "connect", "disconnect", "ended"]);
    front(1);
    expect(calls).toHaveLength(4);
    expect(service.pending()).toBe(0);
  });
  it("by a toolstack that writes the store itself", () => {
    start();
    front(4);
    dom0.transaction((t) => {
      t.write(`${backend}/online`, "0");
      t.write(`${backend}/state`, "5");
    });
    service.deliver();
    expect(calls).toEqual(["probe", "connect"]);
    expect(front(6)).toBe(6);
    expect(calls).toEqual(["probe", "connect", "disconnect", "ended"]);
  });
  it("is at once where no frontend is active", () => {
    const handshake = start();
    handshake.detach();
    expect(handshake.state).toBe(6);
    expect(calls).toEqual(["probe", "ended"]);
  });
  it("a wish to detach while online closes; a frontend that starts anew gets the device again", () => {
    start();
    dom0.write(`${backend}/state`, "5");
    service.deliver();
    expect(dom0.read(`${backend}/state`)).toBe("6");
    expect(front(3)).toBe(6);
    expect(front(6)).toBe(6);
    expect(front(1)).toBe(2);
    expect(front(3)).toBe(4);
  });
  it("by a frontend that vanishes", () => {
    start();
    front(4);
    dom0.rm("/local/domain/1");
    service.deliver();
    expect(calls).toEqual(["probe", "connect", "disconnect", "ended"]);
    expect(dom0.read(`${backend}/state`)).toBe("6");
  });
  it("by a backend's directory that is removed", () => {
    const handshake = start();
    front(4);
    dom0.rm(backend);
    service.deliver();
    expect(calls).toEqual(["probe", "connect", "disconnect", "ended"]);
    expect(dom0.exists(backend)).toBe(false);
    expect(handshake.ended).toBe(true);
  });
  it("by destroy, whatever the frontend says", async () => {
    const handshake = start();
    front(4);
    await handshake.destroy();
    await handshake.destroy();
    expect(calls).toEqual(["probe", "connect", "disconnect", "ended"]);
  });
});

describe("work that takes time", () => {
  it("is held, and what comes meanwhile is looked at after it", async () => {
    let finish: () => void = () => undefined;
    device.connect = () => {
      calls.push("connect");
      return new Promise((resolve) => {
        finish = resolve;
      });
    };
    const handshake = start();
    expect(front(3)).toBe(2);
    expect(handshake.pending).not.toBeNull();
    expect(held).toHaveLength(1);
    expect(front(5)).toBe(2);
    finish();
    await held[0];
    expect(handshake.pending).toBeNull();
    expect(calls).toEqual(["probe", "connect", "disconnect"]);
    expect(states).toEqual([2, 4, 5]);
  });
  it("destroy waits for it", async () => {
    device.connect = () => Promise.resolve().then(() => void calls.push("connected"));
    device.disconnect = () => Promise.resolve().then(() => void calls.push("disconnected"));
    const handshake = start();
    front(3);
    await handshake.destroy();
    expect(calls).toEqual(["probe", "connected", "disconnected", "ended"]);
  });
});

describe("an error", () => {
  it.each([
    [
      "thrown",
      () => {
        throw new Error("bad ring-ref");
      },
    ],
    ["rejected", () => Promise.reject(new Error("bad ring-ref"))],
  ])("of connect, %s, is shown and closes; another try needs a new start of the frontend", async (_, connect) => {
    device.connect = connect;
    const handshake = start();
    front(3);
    await Promise.all(held);
    expect(dom0.read("/local/domain/0/error/backend/vbd/1/51712/error")).toBe("5 bad ring-ref");
    expect(dom0.read(`${backend}/state`)).toBe("5");
    expect(handshake.connected).toBe(false);
    expect(calls).toEqual(["probe", "disconnect"]);
    expect(front(4)).toBe(5);
    expect(front(6)).toBe(6);
    device.connect = () => undefined;
    expect(front(1)).toBe(2);
    expect(front(3)).toBe(4);
  });
  it("carries its errno", () => {
    device.connect = () => {
      throw Object.assign(new Error("no such grant"), { errno: "EINVAL" });
    };
    start();
    front(3);
    expect(dom0.read("/local/domain/0/error/backend/vbd/1/51712/error")).toBe("22 no such grant");
  });
  it("of probe closes, and does not try for ever", () => {
    device.probe = () => {
      calls.push("probe");
      throw new Error("no");
    };
    start();
    expect(calls).toEqual(["probe"]);
    expect(dom0.read(`${backend}/state`)).toBe("5");
    front(6);
    expect(front(1)).toBe(5);
    expect(calls).toEqual(["probe", "probe"]);
  });
  it("of disconnect does not stop the end", () => {
    device.disconnect = () => {
      throw new Error("stuck");
    };
    start();
    front(4);
    expect(front(6)).toBe(6);
    dom0.rm("/local/domain/1");
    service.deliver();
    expect(calls).toEqual(["probe", "ended"].toSpliced(1, 0, "connect"));
  });
});

it("any sequence of states keeps connect and disconnect in turns, and ends disconnected", () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(10), { maxLength: 30 }),
      fc.boolean(),
      fc.boolean(),
      (sequence, connectFails, probeFails) => {
        service = new XenStoreService();
        dom0 = service.client();
        calls = [];
        dom0.write(`${frontend}/state`, "1");
        dom0.write(`${backend}/state`, "1");
        let attempts = 0;
        device = {
          probe: () => {
            if (probeFails && attempts++ % 2 === 0) throw new Error("probe");
          },
          connect: () => {
            calls.push("connect");
            if (connectFails && attempts++ % 2 === 0) throw new Error("connect");
          },
          disconnect: () => void calls.push("disconnect"),
        };
        const handshake = start();
        for (const state of sequence) {
          if (state === 10) dom0.write(`${backend}/state`, "5");
          else if (state === 9 && sequence.length % 3 === 0) handshake.detach();
          else dom0.write(`${frontend}/state`, String(state));
          if (sequence.length % 2 === 0) expect(service.deliver(1000)).toBeLessThan(1000);
        }
        expect(service.deliver(1000)).toBeLessThan(1000);
        dom0.rm("/local/domain/1");
        service.deliver();
        expect(handshake.connected).toBe(false);
        expect(handshake.ended).toBe(true);
        const turns = calls.filter((call) => call !== "ended");
        for (const [index, call] of turns.entries()) expect(call).toBe(index % 2 === 0 ? "connect" : "disconnect");
        expect(turns.length % 2).toBe(0);
      },
    ),
  );
});
