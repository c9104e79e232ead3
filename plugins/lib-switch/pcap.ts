/**
 * The pcap file format (draft-ietf-opsawg-pcap): a header, then a record a frame; little-endian, time stamps in nanoseconds.
 *
 * Pure: it makes bytes; who has a file writes them. A partial checksum is completed, as a wire would show it; a segment that stands
 * for several is shown as the one that it is, as captures on a real host do.
 */
import { completed } from "./checksum.ts";
import type { Frame } from "./frame.ts";

const MAGIC_NANOSECONDS = 0xa1b23c4d;
const SNAP_LENGTH = 262_144;
const LINKTYPE_ETHERNET = 1;
const SECOND = 1e9;

/** The header of a capture of Ethernet frames. */
export function pcapHeader(): Uint8Array {
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC_NANOSECONDS, true);
  view.setUint16(4, 2, true);
  view.setUint16(6, 4, true);
  view.setUint32(16, SNAP_LENGTH, true);
  view.setUint32(20, LINKTYPE_ETHERNET, true);
  return bytes;
}

/** A record; the time is `now` nanoseconds after `zero`, nanoseconds since 1970. */
export function pcapRecord(frame: Frame, now: number, zero: number): Uint8Array {
  const data = (completed(frame) ?? frame).bytes;
  const nanoseconds = (zero % SECOND) + (now % SECOND);
  const seconds = Math.floor(zero / SECOND) + Math.floor(now / SECOND) + Math.floor(nanoseconds / SECOND);
  const bytes = new Uint8Array(16 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, seconds, true);
  view.setUint32(4, nanoseconds % SECOND, true);
  view.setUint32(8, data.length, true);
  view.setUint32(12, data.length, true);
  bytes.set(data, 16);
  return bytes;
}
