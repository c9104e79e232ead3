/**
 * Internet checksums (RFC 1071), where the transport header of a frame is, and the checksum that an offloading sender left undone.
 *
 * Everything here reads hostile bytes: whatever does not add up is null or false, never an exception.
 */
import { ETHERNET_HEADER, ETHERTYPE, type Frame, read16, write16 } from "./frame.ts";

/** IP protocol numbers (IANA). */
export const PROTOCOL = Object.freeze({ icmp: 1, tcp: 6, udp: 17 });

/** IPv6 extension headers that have a length and a next header: hop-by-hop, routing, destination options. */
const IPV6_EXTENSIONS: readonly number[] = [0, 43, 60];
/** Extension headers looked at, at most. */
const MOST_EXTENSIONS = 8;

/** The folded sum of bytes [from, to) as 16-bit words, not inverted; an odd last byte counts as the high one. */
export function sum16(bytes: Uint8Array, from: number, to: number, start = 0): number {
  let sum = start;
  let at = from;
  for (; at + 1 < to; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
  if (at < to) sum += bytes[at]! << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}

/** The checksum field for bytes [from, to) whose field is 0: the inverted sum. */
export function checksum16(bytes: Uint8Array, from: number, to: number, start = 0): number {
  return ~sum16(bytes, from, to, start) & 0xffff;
}

/** Where the IP packet of a frame and its TCP or UDP header are. */
export interface Transport {
  readonly version: 4 | 6;
  /** Offset of the IP header. */
  readonly ip: number;
  /** Offset of the TCP or UDP header. */
  readonly header: number;
  /** End of the IP packet; the rest of the frame is padding. */
  readonly end: number;
  readonly protocol: typeof PROTOCOL.tcp | typeof PROTOCOL.udp;
}

/** Finds the IP header behind VLAN tags: its offset and Ethernet type. */
export function networkOf(bytes: Uint8Array): { readonly type: number; readonly at: number } {
  let at = ETHERNET_HEADER;
  let type = read16(bytes, 12);
  for (let tags = 0; tags < 2 && (type === ETHERTYPE.vlan || type === ETHERTYPE.serviceVlan); tags++) {
    type = read16(bytes, at + 2);
    at += 4;
  }
  return { type, at };
}

/** Finds the transport header; null: no whole TCP or UDP packet (other protocols, fragments, wrong lengths). */
export function transportOf(bytes: Uint8Array): Transport | null {
  const { type, at } = networkOf(bytes);
  const found = type === ETHERTYPE.ipv4 ? overIpv4(bytes, at) : type === ETHERTYPE.ipv6 ? overIpv6(bytes, at) : null;
  if (found === null) return null;
  const least = found.protocol === PROTOCOL.tcp ? 20 : 8;
  return found.end > bytes.length || found.header + least > found.end ? null : found;
}

function overIpv4(bytes: Uint8Array, ip: number): Transport | null {
  if (ip + 20 > bytes.length || bytes[ip]! >> 4 !== 4) return null;
  const length = (bytes[ip]! & 15) * 4;
  const protocol = bytes[ip + 9]!;
  const fragment = (read16(bytes, ip + 6) & 0x3fff) !== 0;
  if (length < 20 || fragment || (protocol !== PROTOCOL.tcp && protocol !== PROTOCOL.udp)) return null;
  return { version: 4, ip, header: ip + length, end: ip + read16(bytes, ip + 2), protocol };
}

function overIpv6(bytes: Uint8Array, ip: number): Transport | null {
  if (ip + 40 > bytes.length || bytes[ip]! >> 4 !== 6) return null;
  const end = ip + 40 + read16(bytes, ip + 4);
  let protocol = bytes[ip + 6]!;
  let header = ip + 40;
  for (let i = 0; i < MOST_EXTENSIONS && IPV6_EXTENSIONS.includes(protocol); i++) {
    if (header + 8 > bytes.length) return null;
    protocol = bytes[header]!;
    header += 8 + bytes[header + 1]! * 8;
  }
  if (protocol !== PROTOCOL.tcp && protocol !== PROTOCOL.udp) return null;
  return { version: 6, ip, header, end, protocol };
}

/** The folded sum of the pseudo header of a transport packet. */
export function pseudoSum(bytes: Uint8Array, { version, ip, header, end, protocol }: Transport): number {
  const start = protocol + (end - header);
  return version === 4 ? sum16(bytes, ip + 12, ip + 20, start) : sum16(bytes, ip + 8, ip + 40, start);
}

function fieldOf({ header, protocol }: Transport): number {
  return header + (protocol === PROTOCOL.tcp ? 16 : 6);
}

/** Computes the transport checksum anew, in place. */
export function writeChecksum(bytes: Uint8Array, transport: Transport): void {
  const field = fieldOf(transport);
  write16(bytes, field, 0);
  const sum = checksum16(bytes, transport.header, transport.end, pseudoSum(bytes, transport));
  write16(bytes, field, sum === 0 && transport.protocol === PROTOCOL.udp ? 0xffff : sum);
}

/** Puts the pseudo header's sum into the field, in place: what `partial` promises. */
export function writePartial(bytes: Uint8Array, transport: Transport): void {
  write16(bytes, fieldOf(transport), pseudoSum(bytes, transport));
}

/** Is the transport checksum right? A UDP packet over IPv4 without one is. */
export function verifyChecksum(bytes: Uint8Array, transport: Transport): boolean {
  if (transport.protocol === PROTOCOL.udp && transport.version === 4 && read16(bytes, fieldOf(transport)) === 0)
    return true;
  return sum16(bytes, transport.header, transport.end, pseudoSum(bytes, transport)) === 0xffff;
}

/** The frame with its checksum done; null: it is partial and has no transport header. */
export function completed(frame: Frame): Frame | null {
  if (frame.checksum !== "partial") return frame;
  const transport = transportOf(frame.bytes);
  if (transport === null) return null;
  const bytes = frame.bytes.slice();
  writeChecksum(bytes, transport);
  return { bytes, checksum: "valid", segmentation: frame.segmentation };
}
