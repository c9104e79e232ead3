/**
 * The header in front of each packet of a virtio network device (virtio 1.2, section 5.1.6; linux/virtio_net.h), to and from what frames say of
 * themselves. Hostile on the way out of the guest: whatever does not add up is refused in words.
 */
import {
  checksum16,
  ETHERNET_HEADER,
  type Frame,
  offloaded,
  PROTOCOL,
  read16,
  type Segmentation,
  type Transport,
  transportOf,
  write16,
} from "../lib-switch/index.ts";

/** Bytes of the header with VERSION_1, num_buffers included. */
export const HEADER = 12;
/** Bytes of a frame at most: 64 KiB of IP packet, Ethernet header, two VLAN tags. */
export const MOST_FRAME = 65_535 + ETHERNET_HEADER + 8;

const FLAG = { needsChecksum: 1, dataValid: 2 };
const GSO = { none: 0, tcp4: 1, tcp6: 4, ecn: 0x80 };
const CWR = 0x80;

/** What a driver may leave to the device, or the device to it. */
export interface Offloads {
  readonly checksum: boolean;
  readonly gso4: boolean;
  readonly gso6: boolean;
  readonly ecn: boolean;
}

/** The frame that a driver sends, its header in front; or what is wrong with it. `bytes` is the frame's from now on. */
export function frameOf(header: DataView, bytes: Uint8Array, offloads: Offloads): Frame | string {
  const flags = header.getUint8(0);
  const gso = header.getUint8(1);
  const needsChecksum = (flags & FLAG.needsChecksum) !== 0;
  if (needsChecksum && !offloads.checksum) return "a blank checksum, which was not agreed on";
  const segmentation = segmentationOf(gso, header.getUint16(4, true), offloads);
  if (typeof segmentation === "string") return segmentation;
  if (!needsChecksum)
    return segmentation === null ? offloaded(bytes, "full", null) : "segmentation without a blank checksum";
  const start = header.getUint16(6, true);
  const field = start + header.getUint16(8, true);
  if (start < ETHERNET_HEADER || field + 2 > bytes.length)
    return `a checksum from ${start} at ${field} of ${bytes.length} bytes`;
  const transport = transportOf(bytes);
  if (transport !== null && transport.header === start && fieldOf(transport) === field)
    return offloaded(bytes, "partial", segmentation);
  if (segmentation !== null) return "segmentation of what is no TCP";
  // A checksum of something else: done here, as a card does it, from the start to the end of the frame.
  write16(bytes, field, checksum16(bytes, start, bytes.length));
  return offloaded(bytes, "full", null);
}

function segmentationOf(gso: number, size: number, offloads: Offloads): Segmentation | null | string {
  const kind = gso & ~GSO.ecn;
  if (kind === GSO.none) return null;
  const version = kind === GSO.tcp4 && offloads.gso4 ? 4 : kind === GSO.tcp6 && offloads.gso6 ? 6 : 0;
  if (version === 0) return `segmentation of type ${gso}, which was not agreed on`;
  return size === 0 ? "segmentation into nothing" : { version, size };
}

/** Fills the header for a frame that a driver takes as it is; `buffers` is the number of chains that it takes. */
export function putHeader(
  header: DataView,
  { bytes, checksum, segmentation }: Frame,
  accepts: Offloads,
  buffers: number,
): void {
  for (let at = 0; at < HEADER; at++) header.setUint8(at, 0);
  header.setUint16(10, buffers, true);
  if (!accepts.checksum) return;
  if (checksum === "valid") header.setUint8(0, FLAG.dataValid);
  const transport = checksum === "partial" ? transportOf(bytes) : null;
  if (transport === null) return;
  const field = fieldOf(transport);
  header.setUint8(0, FLAG.needsChecksum);
  header.setUint16(6, transport.header, true);
  header.setUint16(8, field - transport.header, true);
  if (segmentation === null) return;
  header.setUint8(1, (segmentation.version === 4 ? GSO.tcp4 : GSO.tcp6) | (hasCwr(bytes, transport) ? GSO.ecn : 0));
  header.setUint16(2, transport.header + ((bytes[transport.header + 12] ?? 0) >> 4) * 4, true);
  header.setUint16(4, segmentation.size, true);
}

/** Does a segment that stands for several say that its sender has slowed down (CWR)? Such a one only some drivers take. */
export function congested({ bytes, segmentation }: Frame): boolean {
  const transport = segmentation === null ? null : transportOf(bytes);
  return transport !== null && hasCwr(bytes, transport);
}

function hasCwr(bytes: Uint8Array, { header, protocol }: Transport): boolean {
  return protocol === PROTOCOL.tcp && (read16(bytes, header + 12) & CWR) !== 0;
}

function fieldOf({ header, protocol }: Transport): number {
  return header + (protocol === PROTOCOL.tcp ? 16 : 6);
}
