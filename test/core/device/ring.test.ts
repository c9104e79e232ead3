import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BackRing, FrontRing, RingError, type RingMemory, ringSize, SRING } from "../../../core/device/ring.ts";

function memory(pages = 1, slotBytes = 112, littleEndian = true): RingMemory {
  return { pages: Array.from({ length: pages }, () => new Uint8Array(4096)), slotBytes, littleEndian };
}

function header(ring: RingMemory): DataView {
  return new DataView(ring.pages[0]!.buffer);
}

describe("size of a ring", () => {
  it.each([
    ["vbd", 4096, 112, 32],
    ["vbd of two pages", 8192, 112, 64],
    ["vif tx", 4096, 12, 256],
    ["vif rx", 4096, 8, 256],
    ["vscsi", 4096, 252, 16],
    ["too small", 100, 112, 0],
  ])("%s", (_, bytes, slot, size) => expect(ringSize(bytes, slot)).toBe(size));
});

describe("requests and responses", () => {
  it.each([true, false])("go through, little-endian: %s, across pages", (littleEndian) => {
    const shared = memory(2, 112, littleEndian);
    const front = new FrontRing(shared);
    const back = new BackRing(shared);
    expect(front.size).toBe(64);
    const bytes = new Uint8Array(112);
    const got = new Uint8Array(112);
    let answered = 0;
    for (let round = 0; round < 5; round++) {
      let put = 0;
      while (front.putRequest(bytes.fill((round + put) & 0xff))) put++;
      expect(put).toBe(64);
      expect(front.pushRequests()).toBe(true);
      expect(header(shared).getUint32(SRING.reqProd, littleEndian)).toBe((round + 1) * 64);
      for (let n = 0; n < 64; n++) {
        expect(back.takeRequest(got)).toBe(true);
        expect(got).toEqual(new Uint8Array(112).fill((round + n) & 0xff));
      }
      expect(back.takeRequest(got)).toBe(false);
      expect(back.inFlight).toBe(64);
      expect(back.finalCheck()).toBe(false);
      for (let n = 0; n < 64; n++) back.putResponse(new Uint8Array([n, round]));
      expect(back.pushResponses()).toBe(true);
      const response = new Uint8Array(2);
      while (front.takeResponse(response)) {
        expect(response).toEqual(new Uint8Array([answered % 64, round]));
        answered++;
      }
      expect(front.finalCheck()).toBe(false);
    }
    expect(answered).toBe(320);
  });

  it("notify only past the event index", () => {
    const shared = memory();
    const front = new FrontRing(shared);
    const back = new BackRing(shared);
    const slot = new Uint8Array(112);
    front.putRequest(slot);
    expect(front.pushRequests()).toBe(true); // req_event is 1 from the start
    front.putRequest(slot);
    expect(front.pushRequests()).toBe(false); // the backend has not gone idle since
    expect(back.takeRequest(slot)).toBe(true);
    expect(back.finalCheck()).toBe(true);
    expect(back.takeRequest(slot)).toBe(true);
    expect(back.finalCheck()).toBe(false);
    front.putRequest(slot);
    expect(front.pushRequests()).toBe(true);
  });

  it("a backend that takes over starts at the responses published", () => {
    const shared = memory();
    const front = new FrontRing(shared);
    const back = new BackRing(shared);
    const slot = new Uint8Array(112);
    for (let n = 0; n < 3; n++) front.putRequest(slot.fill(n));
    front.pushRequests();
    back.takeRequest(slot);
    back.putResponse(slot);
    back.pushResponses();
    const next = new BackRing(shared);
    expect(next.unconsumed()).toBe(2);
    next.takeRequest(slot);
    expect(slot[0]).toBe(1);
  });

  it("tells what has been written", () => {
    const wrote: string[] = [];
    const shared: RingMemory = { ...memory(2), wrote: (page, from, to) => wrote.push(`${page}:${from}-${to}`) };
    const front = new FrontRing(shared);
    wrote.length = 0;
    for (let n = 0; n < 37; n++) front.putRequest(new Uint8Array(112));
    expect(wrote.slice(-2)).toEqual(["0:3984-4096", "1:0-112"]);
    const odd = new FrontRing({ ...memory(2, 100), wrote: (page, from, to) => wrote.push(`${page}:${from}-${to}`) });
    for (let n = 0; n < 41; n++) odd.putRequest(new Uint8Array(100));
    expect(wrote.slice(-2)).toEqual(["0:4064-4096", "1:0-68"]);
    wrote.length = 0;
    front.pushRequests();
    expect(wrote.at(-1)).toBe("0:0-4");
  });

  it("a response without a request is the backend's mistake", () => {
    const shared = memory();
    new FrontRing(shared);
    expect(() => new BackRing(shared).putResponse(new Uint8Array(16))).toThrow(RangeError);
  });
});

describe("a hostile other side", () => {
  it("announces more requests than fit: RingError", () => {
    const shared = memory();
    new FrontRing(shared);
    const back = new BackRing(shared);
    for (const wild of [33, 1000, 0x8000_0000, 0xffff_ffff]) {
      header(shared).setUint32(SRING.reqProd, wild, true);
      expect(() => back.unconsumed()).toThrow(RingError);
      expect(() => back.takeRequest(new Uint8Array(112))).toThrow(RingError);
      expect(() => back.finalCheck()).toThrow(RingError);
      expect(() => new BackRing(shared)).toThrow(RingError);
    }
    header(shared).setUint32(SRING.reqProd, 32, true);
    expect(back.unconsumed()).toBe(32);
  });

  it("refills slots whose responses it has not been given: RingError", () => {
    const shared = memory();
    new FrontRing(shared);
    const back = new BackRing(shared);
    header(shared).setUint32(SRING.reqProd, 32, true);
    for (let n = 0; n < 32; n++) back.takeRequest(new Uint8Array(112));
    header(shared).setUint32(SRING.reqProd, 33, true);
    expect(() => back.unconsumed()).toThrow(RingError);
  });

  it("takes requests back: RingError", () => {
    const shared = memory();
    new FrontRing(shared);
    const back = new BackRing(shared);
    header(shared).setUint32(SRING.reqProd, 4, true);
    for (let n = 0; n < 4; n++) back.takeRequest(new Uint8Array(112));
    header(shared).setUint32(SRING.reqProd, 2, true);
    expect(() => back.unconsumed()).toThrow(RingError);
  });

  it("publishes more responses than requests: RingError", () => {
    const shared = memory();
    const front = new FrontRing(shared);
    header(shared).setUint32(SRING.rspProd, 1, true);
    expect(() => front.takeResponse(new Uint8Array(16))).toThrow(RingError);
  });

  it("writes anything anywhere at any time: nothing but RingError, and never more than a ring of requests", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 0xffff_ffff }), fc.nat(4)), {
          maxLength: 60,
        }),
        (steps) => {
          const shared = memory(1, 12);
          new FrontRing(shared);
          const back = new BackRing(shared);
          const slot = new Uint8Array(12);
          for (const [index, value, action] of steps) {
            header(shared).setUint32(index * 4, value % 3 === 0 ? value : value % 600, true);
            try {
              if (action === 0) for (let n = 0; n < 300 && back.takeRequest(slot); n++) expect(n).toBeLessThan(256);
              else if (action === 1) back.finalCheck();
              else if (action === 2) while (back.inFlight > 0) back.putResponse(slot);
              else back.pushResponses();
            } catch (error) {
              expect(error).toBeInstanceOf(RingError);
            }
            expect(back.inFlight).toBeLessThanOrEqual(256);
          }
        },
      ),
    );
  });

  it("asks to be notified of several requests at once", () => {
    const shared = memory(1, 12);
    const front = new FrontRing(shared);
    const back = new BackRing(shared);
    const slot = new Uint8Array(12);
    expect(back.finalCheck(3)).toBe(false);
    for (let n = 1; n <= 3; n++) {
      front.putRequest(slot);
      expect(front.pushRequests()).toBe(n === 3);
    }
    expect(back.finalCheck(3)).toBe(true);
  });

  it("indices wrap at 2^32", () => {
    const shared = memory(1, 12);
    new FrontRing(shared);
    header(shared).setUint32(SRING.reqProd, 0xffff_fffe, true);
    header(shared).setUint32(SRING.rspProd, 0xffff_fffe, true);
    const back = new BackRing(shared);
    header(shared).setUint32(SRING.reqProd, 3, true);
    expect(back.unconsumed()).toBe(5);
    const slot = new Uint8Array(12);
    for (let n = 0; n < 5; n++) expect(back.takeRequest(slot)).toBe(true);
    header(shared).setUint32(SRING.rspEvent, 1, true);
    for (let n = 0; n < 5; n++) back.putResponse(slot);
    expect(back.pushResponses()).toBe(true);
    expect(header(shared).getUint32(SRING.rspProd, true)).toBe(3);
  });
});
