/** A station of a test on a bridge: keeps what it gets, and makes the packets of a client. */
import {
  type Bridge,
  type Endpoint,
  type Frame,
  type Port,
  PROTOCOL,
  parseIpv4,
  plainFrame,
  read16,
  write16,
  write32,
  writeMac,
} from "../../../plugins/lib-switch/index.ts";
import { encodeName } from "../../../plugins/network-builtin/dns.ts";
import {
  icmpFrame,
  ipv4Frame,
  type Route,
  readIpv4,
  readUdp,
  udpFrame,
} from "../../../plugins/network-builtin/packets.ts";

/** A.B.C.D as a number. */
export function ip(text: string): number {
  return parseIpv4(text)!;
}

export class Station implements Endpoint {
  readonly name: string;
  readonly owner: string | null;
  readonly mac: number;
  readonly ip: number | null;
  readonly mtu = 1500;
  readonly got: Frame[] = [];
  readonly port: Port;

  constructor(bridge: Bridge, mac: number, owner: string | null = null, address: number | null = null) {
    this.name = `station-${mac.toString(16)}`;
    this.mac = mac;
    this.owner = owner;
    this.ip = address;
    this.port = bridge.attach(this);
  }

  deliver(frame: Frame): void {
    this.got.push(frame);
  }

  /** Sends and takes what came back. */
  ask(frame: Frame): readonly Frame[] {
    this.got.length = 0;
    this.port.send(frame, 0);
    return [...this.got];
  }

  /** The one packet that came back, taken apart. */
  askIp(frame: Frame) {
    const [answer, ...more] = this.ask(frame);
    if (answer === undefined || more.length > 0) return null;
    return readIpv4(answer);
  }
}

/** A DHCP message of a client. */
export function dhcpFrame(
  mac: number,
  type: number,
  options: readonly (readonly [number, Uint8Array])[] = [],
  change: (data: Uint8Array) => void = () => {},
): Frame {
  const tail = [53, 1, type, ...options.flatMap(([code, value]) => [code, value.length, ...value]), 255];
  const data = new Uint8Array(Math.max(300, 240 + tail.length));
  data.set([1, 1, 6, 0, 0xab, 0xcd, 0xef, 1]);
  writeMac(data, 28, mac);
  write32(data, 236, 0x6382_5363);
  data.set(tail, 240);
  change(data);
  const route = { sourceMac: mac, targetMac: 0xffff_ffff_ffff, source: 0, target: 0xffff_ffff };
  return udpFrame(route, { sourcePort: 68, targetPort: 67, data });
}

/** What a DHCP answer says. */
export function readDhcp(frame: Frame) {
  const packet = readIpv4(frame)!;
  const { data } = readUdp(packet)!;
  const options = new Map<number, readonly number[]>();
  for (let at = 240; data[at] !== 255; at += 2 + data[at + 1]!)
    options.set(data[at]!, [...data.subarray(at + 2, at + 2 + data[at + 1]!)]);
  return { packet, data, yours: [...data.subarray(16, 20)].join("."), type: options.get(53)![0], options };
}

/** A DNS query. */
export function dnsQuery(name: string, type: number): Uint8Array {
  const encoded = encodeName(name);
  const data = new Uint8Array(12 + encoded.length + 4);
  data.set([0x12, 0x34, 1, 0, 0, 1]);
  data.set(encoded, 12);
  write16(data, 12 + encoded.length, type);
  write16(data, 14 + encoded.length, 1);
  return data;
}

/** Response code and the data of the answers. */
export function readDns(data: Uint8Array) {
  const count = read16(data, 6);
  let at = 12;
  while (data[at] !== 0) at += data[at]! + 1;
  at += 5;
  const answers: number[][] = [];
  for (let i = 0; i < count; i++) {
    const length = read16(data, at + 10);
    answers.push([...data.subarray(at + 12, at + 12 + length)]);
    at += 12 + length;
  }
  return { code: data[3]! & 15, answers, end: at };
}

/** An ARP request. */
export function arpRequest(mac: number, sender: number, target: number): Frame {
  const bytes = new Uint8Array(60);
  writeMac(bytes, 0, 0xffff_ffff_ffff);
  writeMac(bytes, 6, mac);
  bytes.set([8, 6, 0, 1, 8, 0, 6, 4, 0, 1], 12);
  writeMac(bytes, 22, mac);
  write32(bytes, 28, sender);
  write32(bytes, 38, target);
  return plainFrame(bytes);
}

/** A TCP segment without options. */
export function tcpFrame(
  route: Route,
  segment: {
    readonly flags: number;
    readonly sequence?: number;
    readonly acknowledgement?: number;
    readonly data?: Uint8Array;
  },
): Frame {
  const { data = new Uint8Array(0) } = segment;
  const payload = new Uint8Array(20 + data.length);
  write16(payload, 0, 40_000);
  write16(payload, 2, 80);
  write32(payload, 4, segment.sequence ?? 0);
  write32(payload, 8, segment.acknowledgement ?? 0);
  payload[12] = 5 << 4;
  payload[13] = segment.flags;
  payload.set(data, 20);
  return ipv4Frame(route, PROTOCOL.tcp, payload);
}

/** An echo request. */
export function echoFrame(route: Route, size = 56): Frame {
  return icmpFrame(
    route,
    8,
    0,
    Uint8Array.from({ length: 4 + size }, (_, i) => i & 255),
  );
}
