/**
 * Ethernet frames as ports hand them to one another: bytes, and what the sender left for others to do (checksum, segmentation).
 *
 * A frame is never changed once it is sent: whoever needs other bytes makes a copy. MAC addresses are numbers of 48 bits.
 */

/** Bytes of an Ethernet header: destination, source, type. */
export const ETHERNET_HEADER = 14;
/** ff:ff:ff:ff:ff:ff. */
export const BROADCAST = 0xffff_ffff_ffff;
/** Ethernet types (IEEE 802). */
export const ETHERTYPE = Object.freeze({ ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd, serviceVlan: 0x88a8 });

/**
 * The transport checksum of a frame: `full`, to be verified by the receiver; `valid`, the sender vouches for the data; `partial`, its field has
 * the sum of the pseudo header only and the rest is still to be done.
 */
export type Checksum = "full" | "valid" | "partial";

/** A TCP segment that stands for several: each of at most `size` bytes of payload. */
export interface Segmentation {
  readonly version: 4 | 6;
  readonly size: number;
}

/** One Ethernet frame without its FCS. */
export interface Frame {
  readonly bytes: Uint8Array;
  readonly checksum: Checksum;
  readonly segmentation: Segmentation | null;
}

/** A frame with nothing left to do. */
export function plainFrame(bytes: Uint8Array): Frame {
  return { bytes, checksum: "full", segmentation: null };
}

/** The MAC address at an offset. */
export function readMac(bytes: Uint8Array, at: number): number {
  return read16(bytes, at) * 2 ** 32 + read32(bytes, at + 2);
}

/** Writes a MAC address. */
export function writeMac(bytes: Uint8Array, at: number, mac: number): void {
  write16(bytes, at, Math.floor(mac / 2 ** 32));
  write32(bytes, at + 2, mac % 2 ** 32);
}

/** Is it a group address (multicast or broadcast)? */
export function isGroup(mac: number): boolean {
  return (Math.floor(mac / 2 ** 40) & 1) === 1;
}

/** aa:bb:cc:dd:ee:ff. */
export function formatMac(mac: number): string {
  return mac
    .toString(16)
    .padStart(12, "0")
    .replace(/..(?!$)/g, "$&:");
}

/** A MAC address of a single station as people write it (colons or dashes); null: it is none. */
export function parseMac(text: string): number | null {
  if (!/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(text)) return null;
  const mac = Number.parseInt(text.replace(/[:-]/g, ""), 16);
  return mac === 0 || isGroup(mac) ? null : mac;
}

/** a.b.c.d. */
export function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join(".");
}

/** An IPv4 address in dotted notation; null: it is none. */
export function parseIpv4(text: string): number | null {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number);
  if (parts === undefined || parts.some((part) => part > 255)) return null;
  return parts.reduce((address, part) => address * 256 + part, 0);
}

/** 16 bits in network order; 0 beyond the end. */
export function read16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

/** 32 bits in network order, unsigned. */
export function read32(bytes: Uint8Array, at: number): number {
  return ((read16(bytes, at) << 16) | read16(bytes, at + 2)) >>> 0;
}

export function write16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

export function write32(bytes: Uint8Array, at: number, value: number): void {
  write16(bytes, at, value >>> 16);
  write16(bytes, at + 2, value & 0xffff);
}
