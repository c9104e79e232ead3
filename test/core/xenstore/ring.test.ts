/** The ring of a domain, driven by a scripted guest and by a hostile one. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { XENSTORE_INTERFACE as PAGE, XENSTORE, XS } from "../../../core/abi/xs-wire.ts";
import { XenStoreRing } from "../../../core/xenstore/ring.ts";
import { XenStoreService } from "../../../core/xenstore/service.ts";
import { bytesOf, encodeMessage, type Message, MessageReader, textOf } from "../../../core/xenstore/wire.ts";

/** The guest's end: writes requests and reads answers as a kernel does. */
class Guest {
  readonly page = new DataView(new ArrayBuffer(4096));
  readonly service: XenStoreService;
  readonly ring: XenStoreRing;
  readonly little: boolean;
  readonly #reader: MessageReader;

  constructor(service = new XenStoreService(), domid = 1, little = true, start = 0) {
    this.service = service;
    this.little = little;
    for (const index of [PAGE.reqCons, PAGE.reqProd, PAGE.rspCons, PAGE.rspProd])
      this.page.setUint32(index, start, little);
    const connection = service.introduceDomain(domid, { littleEndian: little });
    const dom0 = service.client();
    dom0.mkdir(`/local/domain/${domid}`);
    dom0.setPermissions(`/local/domain/${domid}`, [{ domid, access: 0 }]);
    this.ring = new XenStoreRing(this.page, connection);
    this.#reader = new MessageReader(little);
  }
  get(offset: number): number {
    return this.page.getUint32(offset, this.little);
  }
  set(offset: number, value: number): void {
    this.page.setUint32(offset, value >>> 0, this.little);
  }
  /** Puts bytes into the ring, as many as fit. */
  put(bytes: Uint8Array): number {
    const prod = this.get(PAGE.reqProd);
    const space = XENSTORE.RING_SIZE - ((prod - this.get(PAGE.reqCons)) >>> 0);
    const length = Math.min(space, bytes.length);
    for (let n = 0; n < length; n++) this.page.setUint8(PAGE.req + ((prod + n) & 1023), bytes[n]!);
    this.set(PAGE.reqProd, prod + length);
    return length;
  }
  /** Reads all that is in the ring. */
  messages(): Message[] {
    const cons = this.get(PAGE.rspCons);
    const length = (this.get(PAGE.rspProd) - cons) >>> 0;
    const bytes = new Uint8Array(length).map((_, n) => this.page.getUint8(PAGE.rsp + ((cons + n) & 1023)));
    this.set(PAGE.rspCons, cons + length);
    const found: Message[] = [];
    for (let at = 0; at < length; ) {
      at += this.#reader.push(bytes, at, length);
      const message = this.#reader.take();
      if (message !== undefined) found.push(message);
    }
    return found;
  }
  /** Sends one request in as many pieces as it takes; returns the messages that come until nothing moves. */
  exchange(type: number, payload: string, tx = 0): Message[] {
    const bytes = encodeMessage({ type, reqId: 1, txId: tx, payload: bytesOf(payload) }, this.little);
    const found: Message[] = [];
    let at = 0;
    for (let idle = 0; idle < 2; idle++) {
      at += this.put(bytes.subarray(at));
      if (this.ring.poll()) idle = -1;
      found.push(...this.messages());
    }
    expect(at).toBe(bytes.length);
    return found;
  }
  ask(type: number, payload: string): string {
    return textOf(this.exchange(type, payload).find((message) => message.type !== XS.WATCH_EVENT)!.payload);
  }
}

describe("the ring", () => {
  it("has what the header says where the header says", () => {
    const guest = new Guest();
    expect(guest.page.getUint32(2064, true)).toBe(3);
    expect([guest.page.getUint32(2068, true), guest.page.getUint32(2072, true)]).toEqual([0, 0]);
  });
  it.each([
    [true, 0],
    [false, 0],
    [true, 0xffff_fe00],
    [false, 1000],
  ])("carries requests, little-endian: %s, indices from %i on, over both wraps", (little, start) => {
    const guest = new Guest(new XenStoreService(), 1, little, start);
    for (let n = 0; n < 40; n++) {
      const value = String(n).repeat(1 + ((n * 37) % 900));
      expect(guest.ask(XS.WRITE, `node\0${value}`)).toBe("OK\0");
      expect(guest.ask(XS.READ, "node\0")).toBe(value);
    }
  });
  it("answers larger than the ring, in pieces, as the guest reads", () => {
    const guest = new Guest();
    guest.service.client().write("/local/domain/1/big", "x".repeat(4096));
    guest.put(encodeMessage({ type: XS.READ, reqId: 1, txId: 0, payload: bytesOf("big\0") }, true));
    expect(guest.ring.poll()).toBe(true);
    expect(guest.get(PAGE.rspProd)).toBe(1024);
    expect(guest.ring.due).toBe(true);
    expect(guest.ring.poll()).toBe(false);
    let bytes = 0;
    for (let n = 0; n < 5; n++) {
      for (const message of guest.messages()) bytes += message.payload.length;
      expect(guest.ring.poll()).toBe(n < 4);
    }
    expect(bytes).toBe(4096);
    expect(guest.ring.due).toBe(false);
  });
  it("tells when there is nothing to notify of", () => {
    expect(new Guest().ring.poll()).toBe(false);
  });
  it("brings events of others' writes, and asks for attention", () => {
    const guest = new Guest();
    guest.ask(XS.WATCH, "data\0token\0");
    let asked = 0;
    guest.ring.connection.attention = () => asked++;
    guest.ask(XS.WRITE, "data\0x");
    expect(asked).toBe(0);
    guest.service.client().write("/local/domain/1/data", "1");
    expect(asked).toBe(1);
    expect(guest.ring.due).toBe(true);
    expect(guest.ring.poll()).toBe(true);
    expect(guest.messages().map(({ payload }) => textOf(payload))).toEqual(["data\0token\0"]);
  });
  it("goes on once another domain has read what this one caused", () => {
    const service = new XenStoreService();
    const [writer, reader] = [new Guest(service, 1), new Guest(service, 2)];
    const dom0 = service.client();
    dom0.setPermissions("/local/domain/1", [{ domid: 1, access: 1 }]);
    reader.ask(XS.WATCH, "/local/domain/1\0t\0");
    // Bring the reader to a halt: its ring full, more waiting.
    for (let n = 0; n < 40; n++) {
      const request = { type: XS.WRITE, reqId: n, txId: 0, payload: bytesOf(`a-node-of-some-length-${n}\0`) };
      writer.put(encodeMessage(request, true));
      writer.ring.poll();
      writer.messages();
      if (reader.ring.due) reader.ring.poll();
    }
    for (let n = 0; writer.get(PAGE.reqCons) !== writer.get(PAGE.reqProd) || n === 0; n++) {
      expect(n).toBeLessThan(50);
      reader.messages();
      if (reader.ring.due) reader.ring.poll();
      if (writer.ring.due) writer.ring.poll();
      writer.messages();
    }
    expect(dom0.list("/local/domain/1")).toHaveLength(40);
  });
  it("reports what it writes", () => {
    const service = new XenStoreService();
    const guest = new Guest(service, 1);
    const ranges: [number, number][] = [];
    const before = new Uint8Array(guest.page.buffer.slice(0));
    const ring = new XenStoreRing(guest.page, service.connectionOf(1)!, (from, to) => ranges.push([from, to]));
    guest.put(encodeMessage({ type: XS.GET_DOMAIN_PATH, reqId: 1, txId: 0, payload: bytesOf("1\0") }, true));
    const mine = new Uint8Array(guest.page.buffer.slice(0));
    ring.poll();
    const after = new Uint8Array(guest.page.buffer);
    for (let at = 0; at < 4096; at++) {
      if (after[at] !== mine[at]) expect(ranges.some(([from, to]) => from <= at && at < to)).toBe(true);
    }
    expect(before).not.toEqual(after);
  });
});

describe("a hostile or broken guest", () => {
  it.each([
    ["request producer", PAGE.reqProd],
    ["request consumer", PAGE.reqCons],
    ["response consumer", PAGE.rspCons],
    ["response producer", PAGE.rspProd],
  ])("with a wild %s is cut off with XENSTORE_ERROR_RINGIDX", (_, index) => {
    const guest = new Guest();
    guest.ask(XS.WATCH, "data\0token\0");
    guest.set(index, guest.get(index) + 0x4000_0000);
    expect(guest.ring.poll()).toBe(true);
    expect(guest.get(PAGE.error)).toBe(XENSTORE.ERROR_RINGIDX);
    expect(guest.ring.connection.closed).toBe(true);
    expect(guest.service.watches.count(guest.ring.connection)).toBe(0);
    expect(guest.ring.poll()).toBe(false);
  });
  it("with an oversized payload is cut off with XENSTORE_ERROR_PROTO, others go on", () => {
    const service = new XenStoreService();
    const [bad, good] = [new Guest(service, 1), new Guest(service, 2)];
    const header = new Uint8Array(16);
    new DataView(header.buffer).setUint32(12, 4097, true);
    bad.put(header);
    expect(bad.ring.poll()).toBe(true);
    expect(bad.get(PAGE.error)).toBe(XENSTORE.ERROR_PROTO);
    expect(bad.ring.poll()).toBe(false);
    expect(good.ask(XS.WRITE, "a\x001")).toBe("OK\0");
  });
  it("can start over by reconnecting, from the middle of a message and after an error", () => {
    const guest = new Guest();
    const restart = (): void => {
      guest.set(PAGE.connection, XENSTORE.RECONNECT);
      expect(guest.ring.poll()).toBe(true);
      expect(
        [PAGE.connection, PAGE.error, PAGE.reqCons, PAGE.reqProd, PAGE.rspCons, PAGE.rspProd].map((at) =>
          guest.get(at),
        ),
      ).toEqual([0, 0, 0, 0, 0, 0]);
      expect(guest.ask(XS.READ, "data\0")).toBe("1");
    };
    guest.ask(XS.WRITE, "data\x001");
    guest.ask(XS.WATCH, "data\0token\0");
    guest.exchange(XS.TRANSACTION_START, "\0");
    guest.put(new Uint8Array(20).fill(1));
    guest.ring.poll();
    restart();
    expect(guest.service.watches.count(guest.ring.connection)).toBe(0);
    expect(guest.ring.connection.transactions.size).toBe(0);
    guest.set(PAGE.reqProd, 5000);
    guest.ring.poll();
    restart();
  });
  it("cannot start over once released", () => {
    const guest = new Guest();
    guest.service.releaseDomain(1);
    guest.set(PAGE.connection, XENSTORE.RECONNECT);
    expect(guest.ring.poll()).toBe(false);
    expect(guest.ring.connection.closed).toBe(true);
  });
  it("that fills the page with anything: no exception, bounded work, a sound store, others go on", () => {
    const type = fc.oneof(fc.integer({ min: 0, max: 26 }), fc.constantFrom(0xffff, 0xffff_ffff));
    const payload = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc
        .constantFrom("a\0", "a\0b\0", "a\0r1\0", "T\0", "\0", "/\0", "@releaseDomain\0t\0", "1\x002\x003\0")
        .map(bytesOf),
    );
    const message = fc
      .tuple(type, fc.nat(2), payload)
      .map(([kind, tx, bytes]) => encodeMessage({ type: kind, reqId: 0, txId: tx, payload: bytes }, true));
    const junk = fc.uint8Array({ maxLength: 200 });
    const index = fc.tuple(
      fc.integer({ min: 0, max: 6 }),
      fc.oneof(fc.nat(3000), fc.integer({ min: 0, max: 0xffff_ffff })),
    );
    const step = fc.oneof(
      { weight: 8, arbitrary: message },
      { weight: 1, arbitrary: junk },
      { weight: 1, arbitrary: index },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.boolean(), (steps, reads) => {
        const service = new XenStoreService();
        const [guest, other] = [new Guest(service, 1), new Guest(service, 2)];
        for (const one of steps) {
          if (one instanceof Uint8Array) guest.put(one);
          else guest.set(PAGE.reqCons + one[0] * 4, one[1]);
          guest.ring.poll();
          if (reads) guest.set(PAGE.rspCons, guest.get(PAGE.rspProd));
        }
        expect(service.store.inconsistencies()).toEqual([]);
        expect(guest.ring.connection.queued).toBeLessThan(150);
        expect(other.ask(XS.GET_DOMAIN_PATH, "2\0")).toBe("/local/domain/2\0");
      }),
      { numRuns: 300 },
    );
  });
  it("that is one page of random bytes: no exception", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 4096, maxLength: 4096 }),
        fc.boolean(),
        fc.boolean(),
        (bytes, little, valid) => {
          const guest = new Guest(new XenStoreService(), 1, little);
          new Uint8Array(guest.page.buffer).set(bytes);
          if (valid) guest.set(PAGE.reqProd, guest.get(PAGE.reqCons) + 1024);
          for (let n = 0; n < 3; n++) guest.ring.poll();
        },
      ),
      { numRuns: 100 },
    );
  });
});
