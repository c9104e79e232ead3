/** Checksums, segmentation, what a receiver takes, capture records. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  ACCEPTS_PLAIN,
  adapt,
  completed,
  type Frame,
  MOST_SEGMENTS,
  pcapHeader,
  pcapRecord,
  plainFrame,
  read16,
  read32,
  segment,
  sum16,
  transportOf,
  verifyChecksum,
  write16,
  write32,
  writeChecksum,
  writePartial,
} from "../../../plugins/lib-switch/index.ts";

interface Made {
  readonly version: 4 | 6;
  readonly protocol: 6 | 17;
  readonly payload: number;
  readonly tags?: number;
  /** Bytes of IPv4 options, or of an IPv6 destination options header. */
  readonly options?: number;
  readonly tcpOptions?: number;
  readonly flags?: number;
  readonly padding?: number;
}

/** A frame with a partial checksum. */
function made({
  version,
  protocol,
  payload,
  tags = 0,
  options = 0,
  tcpOptions = 0,
  flags = 0x18,
  padding = 0,
}: Made): Uint8Array {
  const ip = 14 + 4 * tags;
  const header = ip + (version === 4 ? 20 : 40) + options;
  const start = header + (protocol === 6 ? 20 + tcpOptions : 8);
  const bytes = Uint8Array.from({ length: start + payload + padding }, (_, i) => (i * 37 + (i >> 8)) & 255);
  for (let tag = 0; tag < tags; tag++) write16(bytes, 12 + 4 * tag, 0x8100);
  write16(bytes, ip - 2, version === 4 ? 0x0800 : 0x86dd);
  if (version === 4) {
    bytes.set([0x40 | (5 + options / 4), 0], ip);
    write16(bytes, ip + 2, start + payload - ip);
    write16(bytes, ip + 6, 0x4000);
    bytes[ip + 9] = protocol;
    write16(bytes, ip + 10, 0);
    write16(bytes, ip + 10, ~sum16(bytes, ip, header) & 0xffff);
  } else {
    bytes[ip] = 0x60;
    write16(bytes, ip + 4, start + payload - ip - 40);
    bytes[ip + 6] = options > 0 ? 60 : protocol;
    if (options > 0) bytes.set([protocol, options / 8 - 1], ip + 40);
  }
  if (protocol === 6) bytes.set([(5 + tcpOptions / 4) << 4, flags], header + 12);
  else write16(bytes, header + 4, start + payload - header);
  writePartial(bytes, transportOf(bytes)!);
  return bytes;
}

const shape = fc.record({
  version: fc.constantFrom<4 | 6>(4, 6),
  protocol: fc.constantFrom<6 | 17>(6, 17),
  payload: fc.nat(1500),
  tags: fc.nat(2),
  options: fc.constantFrom(0, 8, 24),
  tcpOptions: fc.constantFrom(0, 12),
  padding: fc.nat(9),
});

describe("checksums", () => {
  test("RFC 1071's example", () => {
    expect(sum16(Uint8Array.of(0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7), 0, 8)).toBe(0xddf2);
    expect(sum16(Uint8Array.of(1, 2, 3), 0, 3)).toBe(0x0402);
  });

  test("a partial one is completed as summing everything does, in a copy", () => {
    fc.assert(
      fc.property(shape, (one) => {
        const bytes = made(one);
        const before = bytes.slice();
        const done = completed({ bytes, checksum: "partial", segmentation: null })!;
        expect(bytes).toEqual(before);
        expect(done.checksum).toBe("valid");
        const transport = transportOf(done.bytes)!;
        expect(verifyChecksum(done.bytes, transport)).toBe(true);
        const changed = done.bytes.slice();
        changed[transport.header]! ^= 0x10;
        expect(verifyChecksum(changed, transport)).toBe(false);
      }),
    );
  });

  test("a partial field sums up with the data to the full one (what a network card does)", () => {
    fc.assert(
      fc.property(shape, (one) => {
        const bytes = made(one);
        const { header, end, protocol } = transportOf(bytes)!;
        const field = header + (protocol === 6 ? 16 : 6);
        const card = ~sum16(bytes, header, end) & 0xffff;
        writeChecksum(bytes, transportOf(bytes)!);
        expect(read16(bytes, field)).toBe(card === 0 && protocol === 17 ? 0xffff : card);
      }),
    );
  });

  test("UDP over IPv4 may have none", () => {
    const bytes = made({ version: 4, protocol: 17, payload: 10 });
    write16(bytes, 40, 0);
    expect(verifyChecksum(bytes, transportOf(bytes)!)).toBe(true);
  });

  test("whatever the bytes are: no exception, nothing beyond the frame", () => {
    fc.assert(
      fc.property(
        shape,
        fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 4 }),
        fc.nat(100),
        (one, changes, length) => {
          const bytes = made(one).slice(0, 14 + length);
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          const transport = transportOf(bytes);
          if (transport === null) return;
          expect(transport.end).toBeLessThanOrEqual(bytes.length);
          expect(transport.header).toBeLessThan(transport.end);
          const frame: Frame = { bytes, checksum: "partial", segmentation: { version: 4, size: 100 } };
          completed(frame);
          segment(frame);
        },
      ),
    );
  });

  test("a frame that has no transport header cannot be completed", () => {
    expect(completed({ bytes: new Uint8Array(60), checksum: "partial", segmentation: null })).toBeNull();
  });
});

describe("segmentation", () => {
  test("the segments are the frame, cut", () => {
    fc.assert(
      fc.property(
        fc.record({ version: fc.constantFrom<4 | 6>(4, 6), payload: fc.integer({ min: 1, max: 20_000 }) }),
        fc.integer({ min: 100, max: 4000 }),
        fc.constantFrom(0, 12),
        (one, size, tcpOptions) => {
          const bytes = made({ ...one, protocol: 6, tcpOptions, flags: 0x99 });
          const whole = transportOf(bytes)!;
          const start = whole.header + 20 + tcpOptions;
          const segments = segment({ bytes, checksum: "partial", segmentation: { version: one.version, size } });
          expect(segments).toHaveLength(Math.ceil(one.payload / size));
          const payload: number[] = [];
          for (const [i, { bytes: part, segmentation }] of segments.entries()) {
            const transport = transportOf(part)!;
            const last = i === segments.length - 1;
            expect(segmentation).toBeNull();
            expect(transport.end).toBe(part.length);
            expect(verifyChecksum(part, transport)).toBe(true);
            if (one.version === 4) expect(sum16(part, transport.ip, transport.header)).toBe(0xffff);
            expect(read32(part, transport.header + 4)).toBe((read32(bytes, whole.header + 4) + i * size) >>> 0);
            expect(part[transport.header + 13]).toBe(0x10 | (last ? 0x09 : 0) | (i === 0 ? 0x80 : 0));
            expect(part.subarray(transport.header + 20, start)).toEqual(bytes.subarray(whole.header + 20, start));
            payload.push(...part.subarray(start));
          }
          expect(payload).toEqual([...bytes.subarray(start)]);
        },
      ),
      { numRuns: 50 },
    );
  });

  test("what is no such segment, or too many, is nothing", () => {
    const tcp = made({ version: 4, protocol: 6, payload: 5000 });
    const cut = (bytes: Uint8Array, version: 4 | 6, size: number) =>
      segment({ bytes, checksum: "partial", segmentation: { version, size } }).length;
    expect(cut(tcp, 6, 1000)).toBe(0);
    expect(cut(made({ version: 4, protocol: 17, payload: 5000 }), 4, 1000)).toBe(0);
    expect(cut(tcp, 4, 1)).toBe(0);
    expect(cut(tcp, 4, Math.ceil(5000 / MOST_SEGMENTS))).toBe(1000);
    const offset = tcp.slice();
    offset[46] = 0xf0;
    expect(cut(offset, 4, 1000)).toBe(5);
    offset[46] = 0x10;
    expect(cut(offset, 4, 1000)).toBe(0);
    expect(segment(plainFrame(tcp))).toEqual([]);
  });
});

describe("a receiver gets what it takes", () => {
  const all = { partial4: true, partial6: true, gso4: true, gso6: true };
  test.each([4, 6] as const)("IPv%i", (version) => {
    const bytes = made({ version, protocol: 6, payload: 3000 });
    const big: Frame = { bytes, checksum: "partial", segmentation: { version, size: 1000 } };
    const small: Frame = { ...big, segmentation: null };
    expect(adapt(big, all)).toEqual([big]);
    expect(adapt(small, all)).toEqual([small]);
    expect(adapt(big, ACCEPTS_PLAIN)).toHaveLength(3);
    expect(adapt(small, ACCEPTS_PLAIN)).toEqual([completed(small)]);
    const without = version === 4 ? { ...all, partial4: false } : { ...all, partial6: false };
    expect(adapt(small, without)).toEqual([completed(small)]);
    const unsegmented = version === 4 ? { ...all, gso4: false } : { ...all, gso6: false };
    expect(adapt(big, unsegmented)).toHaveLength(3);
    const plain = plainFrame(bytes);
    expect(adapt(plain, ACCEPTS_PLAIN)).toEqual([plain]);
  });
});

test("a capture's bytes", () => {
  expect([...pcapHeader()]).toEqual([
    0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
  ]);
  const bytes = made({ version: 4, protocol: 17, payload: 4 });
  const record = pcapRecord(
    { bytes, checksum: "partial", segmentation: null },
    2_700_000_001,
    1_767_225_600_500_000_000,
  );
  const view = new DataView(record.buffer);
  expect([view.getUint32(0, true), view.getUint32(4, true)]).toEqual([1_767_225_603, 200_000_001]);
  expect([view.getUint32(8, true), view.getUint32(12, true)]).toEqual([bytes.length, bytes.length]);
  const data = record.subarray(16);
  expect(verifyChecksum(data, transportOf(data)!)).toBe(true);
});

test("32 bits in network order", () => {
  const bytes = new Uint8Array(6);
  write32(bytes, 1, 0xfedc_ba98);
  expect([...bytes]).toEqual([0, 0xfe, 0xdc, 0xba, 0x98, 0]);
  expect(read32(bytes, 1)).toBe(0xfedc_ba98);
  expect(read16(bytes, 5)).toBe(0);
});
