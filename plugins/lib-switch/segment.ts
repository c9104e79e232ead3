/**
 * What a receiver cannot take is done for it: TCP segmentation (as a network card does it) and checksums.
 *
 * Invariants: the payloads of the segments, one after the other, are that of the frame; each segment is a whole packet with right lengths and
 * checksums; the number of segments is bounded, whatever size the sender asked for.
 */
import { checksum16, completed, PROTOCOL, transportOf, writeChecksum } from "./checksum.ts";
import { type Frame, read16, read32, write16, write32 } from "./frame.ts";

/** Segments of one frame, at most. */
export const MOST_SEGMENTS = 1024;

const FIN_PSH = 0x09;
const CWR = 0x80;

/** What a receiver takes as it is. */
export interface Accepts {
  /** Partial checksums over IPv4 and over IPv6. */
  readonly partial4: boolean;
  readonly partial6: boolean;
  /** TCP segments that stand for several. */
  readonly gso4: boolean;
  readonly gso6: boolean;
}

/** Takes plain frames only. */
export const ACCEPTS_PLAIN: Accepts = Object.freeze({ partial4: false, partial6: false, gso4: false, gso6: false });

/** Cuts a frame into segments with full checksums; empty: it is no TCP segment of that version, or would be too many. */
export function segment(frame: Frame): readonly Frame[] {
  const { bytes, segmentation } = frame;
  const transport = transportOf(bytes);
  if (segmentation === null || transport?.protocol !== PROTOCOL.tcp || transport.version !== segmentation.version)
    return [];
  const { ip, header, end, version } = transport;
  const start = header + (bytes[header + 12]! >> 4) * 4;
  if (start < header + 20 || start > end) return [];
  const { size } = segmentation;
  const count = Math.max(1, Math.ceil((end - start) / size));
  if (!(count <= MOST_SEGMENTS)) return [];
  const sequence = read32(bytes, header + 4);
  const frames: Frame[] = [];
  for (let i = 0; i < count; i++) {
    const from = start + i * size;
    const to = Math.min(end, from + size);
    const one = new Uint8Array(start + to - from);
    one.set(bytes.subarray(0, start));
    one.set(bytes.subarray(from, to), start);
    if (version === 4) {
      write16(one, ip + 2, one.length - ip);
      write16(one, ip + 4, (read16(bytes, ip + 4) + i) & 0xffff);
      write16(one, ip + 10, 0);
      write16(one, ip + 10, checksum16(one, ip, header));
    } else write16(one, ip + 4, one.length - ip - 40);
    write32(one, header + 4, (sequence + i * size) >>> 0);
    let flags = one[header + 13]!;
    if (i < count - 1) flags &= ~FIN_PSH;
    if (i > 0) flags &= ~CWR;
    one[header + 13] = flags;
    writeChecksum(one, { ...transport, end: one.length });
    frames.push({ bytes: one, checksum: "valid", segmentation: null });
  }
  return frames;
}

/** The frame as its receiver takes it: itself, with its checksum done, or cut; empty: it cannot be made so. */
export function adapt(frame: Frame, accepts: Accepts): readonly Frame[] {
  const { segmentation } = frame;
  if (segmentation !== null && !(segmentation.version === 4 ? accepts.gso4 : accepts.gso6)) return segment(frame);
  if (frame.checksum !== "partial") return [frame];
  const version = transportOf(frame.bytes)?.version;
  if (version === 4 ? accepts.partial4 : version === 6 && accepts.partial6) return [frame];
  const done = completed(frame);
  return done === null ? [] : [done];
}
