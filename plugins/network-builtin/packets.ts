/**
 * The packets that the gateway reads and writes: ARP, IPv4, ICMP, UDP and TCP headers over Ethernet.
 *
 * Reading takes hostile bytes: what is not whole or whose checksums are wrong is null. Writing gives whole frames with full checksums.
 */
import {
  checksum16,
  ETHERNET_HEADER,
  ETHERTYPE,
  type Frame,
  PROTOCOL,
  plainFrame,
  read16,
  read32,
  sum16,
  transportOf,
  verifyChecksum,
  write16,
  write32,
  writeChecksum,
  writeMac,
} from "../lib-switch/index.ts";

const IP = ETHERNET_HEADER;
const IPV4_HEADER = 20;
const TTL = 64;
const ARP_BYTES = 28;

/** An IPv4 packet, not fragmented. */
export interface Ipv4Packet {
  readonly source: number;
  readonly target: number;
  readonly protocol: number;
  /** The IP header with its options. */
  readonly header: Uint8Array;
  readonly payload: Uint8Array;
}

/** Who sends to whom. */
export interface Route {
  readonly sourceMac: number;
  readonly targetMac: number;
  readonly source: number;
  readonly target: number;
}

/** The IPv4 packet of a frame; null: there is none that is whole and right. */
export function readIpv4(frame: Frame): Ipv4Packet | null {
  const { bytes } = frame;
  if (read16(bytes, 12) !== ETHERTYPE.ipv4 || bytes.length < IP + IPV4_HEADER || bytes[IP]! >> 4 !== 4) return null;
  const length = (bytes[IP]! & 15) * 4;
  const total = read16(bytes, IP + 2);
  if (length < IPV4_HEADER || total < length || IP + total > bytes.length) return null;
  if (sum16(bytes, IP, IP + length) !== 0xffff || (read16(bytes, IP + 6) & 0x3fff) !== 0) return null;
  if (frame.checksum === "full") {
    const transport = transportOf(bytes);
    if (transport !== null && !verifyChecksum(bytes, transport)) return null;
  }
  return {
    source: read32(bytes, IP + 12),
    target: read32(bytes, IP + 16),
    protocol: bytes[IP + 9]!,
    header: bytes.subarray(IP, IP + length),
    payload: bytes.subarray(IP + length, IP + total),
  };
}

/** A frame with an IPv4 packet; the transport checksum of TCP and UDP is written into `payload`'s copy. */
export function ipv4Frame(route: Route, protocol: number, payload: Uint8Array): Frame {
  const bytes = new Uint8Array(IP + IPV4_HEADER + payload.length);
  writeMac(bytes, 0, route.targetMac);
  writeMac(bytes, 6, route.sourceMac);
  write16(bytes, 12, ETHERTYPE.ipv4);
  bytes[IP] = 0x45;
  write16(bytes, IP + 2, IPV4_HEADER + payload.length);
  write16(bytes, IP + 6, 0x4000);
  bytes[IP + 8] = TTL;
  bytes[IP + 9] = protocol;
  write32(bytes, IP + 12, route.source);
  write32(bytes, IP + 16, route.target);
  write16(bytes, IP + 10, checksum16(bytes, IP, IP + IPV4_HEADER));
  bytes.set(payload, IP + IPV4_HEADER);
  const transport = transportOf(bytes);
  if (transport !== null) writeChecksum(bytes, transport);
  return plainFrame(bytes);
}

/** A UDP datagram. */
export interface Datagram {
  readonly sourcePort: number;
  readonly targetPort: number;
  readonly data: Uint8Array;
}

export function readUdp({ payload }: Ipv4Packet): Datagram | null {
  const length = read16(payload, 4);
  if (payload.length < 8 || length < 8 || length > payload.length) return null;
  return { sourcePort: read16(payload, 0), targetPort: read16(payload, 2), data: payload.subarray(8, length) };
}

export function udpFrame(route: Route, { sourcePort, targetPort, data }: Datagram): Frame {
  const payload = new Uint8Array(8 + data.length);
  write16(payload, 0, sourcePort);
  write16(payload, 2, targetPort);
  write16(payload, 4, payload.length);
  payload.set(data, 8);
  return ipv4Frame(route, PROTOCOL.udp, payload);
}

/** An ICMP message with a right checksum; null: none. */
export function readIcmp({
  payload,
}: Ipv4Packet): { readonly type: number; readonly code: number; readonly body: Uint8Array } | null {
  if (payload.length < 8 || sum16(payload, 0, payload.length) !== 0xffff) return null;
  return { type: payload[0]!, code: payload[1]!, body: payload.subarray(4) };
}

/** `body`: what follows type, code and checksum. */
export function icmpFrame(route: Route, type: number, code: number, body: Uint8Array): Frame {
  const payload = new Uint8Array(4 + body.length);
  payload[0] = type;
  payload[1] = code;
  payload.set(body, 4);
  write16(payload, 2, checksum16(payload, 0, payload.length));
  return ipv4Frame(route, PROTOCOL.icmp, payload);
}

const TCP = Object.freeze({ fin: 1, syn: 2, rst: 4, ack: 16 });

/** The segment that refuses another (RFC 9293, 3.10.7.1); null: nothing is to be said (it is a reset, or no TCP). */
export function resetFrame(route: Route, { payload }: Ipv4Packet): Frame | null {
  const header = (payload[12] ?? 0) >> 4;
  const flags = payload[13] ?? 0;
  if (payload.length < 20 || header < 5 || header * 4 > payload.length || (flags & TCP.rst) !== 0) return null;
  const reset = new Uint8Array(20);
  write16(reset, 0, read16(payload, 2));
  write16(reset, 2, read16(payload, 0));
  reset[12] = 5 << 4;
  if ((flags & TCP.ack) !== 0) {
    write32(reset, 4, read32(payload, 8));
    reset[13] = TCP.rst;
  } else {
    const taken = payload.length - header * 4 + ((flags & TCP.syn) !== 0 ? 1 : 0) + ((flags & TCP.fin) !== 0 ? 1 : 0);
    write32(reset, 8, (read32(payload, 4) + taken) >>> 0);
    reset[13] = TCP.rst | TCP.ack;
  }
  return ipv4Frame(route, PROTOCOL.tcp, reset);
}

/** Who asks for the hardware address of whom; null: no ARP request for IPv4 over Ethernet. */
export function readArpRequest({ bytes }: Frame): { readonly sender: number; readonly target: number } | null {
  const at = ETHERNET_HEADER;
  if (read16(bytes, 12) !== ETHERTYPE.arp || bytes.length < at + ARP_BYTES) return null;
  const kind = [read16(bytes, at), read16(bytes, at + 2), read16(bytes, at + 4), read16(bytes, at + 6)];
  if (kind[0] !== 1 || kind[1] !== ETHERTYPE.ipv4 || kind[2] !== 0x0604 || kind[3] !== 1) return null;
  return { sender: read32(bytes, at + 14), target: read32(bytes, at + 24) };
}

/** The answer: `route.source` is at `route.sourceMac`. */
export function arpReply(route: Route): Frame {
  const at = ETHERNET_HEADER;
  const bytes = new Uint8Array(at + ARP_BYTES);
  writeMac(bytes, 0, route.targetMac);
  writeMac(bytes, 6, route.sourceMac);
  write16(bytes, 12, ETHERTYPE.arp);
  write16(bytes, at, 1);
  write16(bytes, at + 2, ETHERTYPE.ipv4);
  write16(bytes, at + 4, 0x0604);
  write16(bytes, at + 6, 2);
  writeMac(bytes, at + 8, route.sourceMac);
  write32(bytes, at + 14, route.source);
  writeMac(bytes, at + 18, route.targetMac);
  write32(bytes, at + 24, route.target);
  return plainFrame(bytes);
}
