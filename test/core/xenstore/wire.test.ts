import fc from "fast-check";
import { expect, it } from "vitest";
import { ERRNO, errnoName, isErrnoName } from "../../../core/abi/errno.ts";
import { XSD_ERRORS } from "../../../core/abi/xs-wire.ts";
import { encodeMessage, joinStrings, type Message, MessageReader, splitStrings } from "../../../core/xenstore/wire.ts";

it("messages come back whole from any cuts, in both byte orders", () => {
  const word = fc.integer({ min: 0, max: 0xffff_ffff });
  const message = fc.record({ type: word, reqId: word, txId: word, payload: fc.uint8Array({ maxLength: 100 }) });
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
      fc.boolean(),
      (messages, cuts, little) => {
        const stream = Uint8Array.from(messages.flatMap((one) => [...encodeMessage(one, little)]));
        const reader = new MessageReader(little);
        const got: Message[] = [];
        for (let from = 0, turn = 0; from < stream.length; turn++) {
          const to = Math.min(stream.length, from + cuts[turn % cuts.length]!);
          while (from < to) {
            from += reader.push(stream, from, to);
            const complete = reader.take();
            if (complete !== undefined) got.push(complete);
          }
        }
        expect(got).toEqual(messages);
      },
    ),
  );
});

it("a payload above the limit is never taken nor sent", () => {
  expect(() => encodeMessage({ type: 0, reqId: 0, txId: 0, payload: new Uint8Array(4097) }, true)).toThrow(RangeError);
  const reader = new MessageReader(false);
  const header = new Uint8Array(16);
  new DataView(header.buffer).setUint32(12, 0x8000_0000);
  expect(reader.push(header, 0, 16)).toBe(16);
  expect(reader.oversized).toBe(true);
  expect(reader.push(header, 0, 16)).toBe(0);
  expect(reader.take()).toBeUndefined();
});

it("strings keep every byte but NUL", () => {
  const text = fc.array(fc.integer({ min: 1, max: 255 })).map((codes) => String.fromCharCode(...codes));
  fc.assert(
    fc.property(fc.array(text), (strings) => {
      const bytes = joinStrings(strings);
      expect(splitStrings(bytes)).toEqual({ strings, rest: bytes.length });
    }),
  );
  expect(splitStrings(new Uint8Array([0x61, 0, 0x62]))).toEqual({ strings: ["a"], rest: 2 });
});

it("errors that travel have Xen's numbers, and numbers their names", () => {
  expect(XSD_ERRORS.map((name) => errnoName(ERRNO[name]))).toEqual(XSD_ERRORS);
  expect([errnoName(-22), errnoName(11), errnoName(0), errnoName(1000)]).toEqual([
    "EINVAL",
    "EAGAIN",
    undefined,
    undefined,
  ]);
  expect([isErrnoName("EBUSY"), isErrnoName("EFOO"), isErrnoName("toString")]).toEqual([true, false, false]);
  expect(Object.isFrozen(ERRNO)).toBe(true);
});
