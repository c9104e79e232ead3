/**
 * A DHCP server (RFC 2131, RFC 2132): answers a message by the address that its sender's station has. No state of its own: the leases decide.
 */
import { read32, readMac, write32, writeMac } from "../lib-switch/index.ts";

/** UDP ports. */
export const DHCP_SERVER_PORT = 67;
export const DHCP_CLIENT_PORT = 68;
/** Seconds for which an address is given. */
export const LEASE_SECONDS = 86_400;

const MESSAGE = Object.freeze({ discover: 1, offer: 2, request: 3, decline: 4, ack: 5, nak: 6, release: 7, inform: 8 });
const OPTION = Object.freeze({
  mask: 1,
  router: 3,
  dns: 6,
  hostName: 12,
  domain: 15,
  mtu: 26,
  broadcast: 28,
  requested: 50,
  leaseTime: 51,
  messageType: 53,
  server: 54,
  end: 255,
});
const COOKIE = 0x6382_5363;
const FIXED_BYTES = 240;
/** BOOTP messages have at least so many bytes (RFC 951). */
const LEAST_BYTES = 300;

/** What the server tells. */
export interface DhcpServer {
  readonly address: number;
  readonly mask: number;
  readonly broadcast: number;
  readonly domain: string;
  readonly mtu: number;
  /** The address of a station; null: none is left. */
  addressOf(mac: number): number | null;
  /** The name of a station's host; null: it has none that is a host name. */
  hostOf(mac: number): string | null;
  /** A client found its address in use. */
  declined(mac: number, address: number): void;
}

/** An answer, and where it goes. */
export interface DhcpAnswer {
  readonly data: Uint8Array;
  /** Null: to everybody (the client has no address yet, or wants it so). */
  readonly to: { readonly mac: number; readonly address: number } | null;
}

/** The answer to a message; null: none is due. */
export function answerDhcp(data: Uint8Array, server: DhcpServer): DhcpAnswer | null {
  if (data.length < FIXED_BYTES || data[0] !== 1 || data[1] !== 1 || data[2] !== 6) return null;
  if (read32(data, 236) !== COOKIE || read32(data, 24) !== 0) return null;
  const options = readOptions(data);
  const number = (option: number): number | null => {
    const value = options.get(option);
    return value?.length === 4 ? read32(value, 0) : null;
  };
  const mac = readMac(data, 28);
  const client = read32(data, 12);
  const chosen = number(OPTION.server);
  const requested = number(OPTION.requested);
  switch (options.get(OPTION.messageType)?.[0]) {
    case MESSAGE.discover: {
      const address = server.addressOf(mac);
      return address === null ? null : answer(data, server, MESSAGE.offer, address);
    }
    case MESSAGE.request: {
      const wanted = requested ?? client;
      if (wanted === 0 || (chosen !== null && chosen !== server.address)) return null;
      const address = server.addressOf(mac);
      return address === wanted ? answer(data, server, MESSAGE.ack, address) : answer(data, server, MESSAGE.nak, null);
    }
    case MESSAGE.inform:
      return client === 0 ? null : answer(data, server, MESSAGE.ack, null);
    case MESSAGE.decline:
      if (requested !== null && chosen === server.address) server.declined(mac, requested);
      return null;
    default:
      return null;
  }
}

/** Options by code; the first of a code counts. */
function readOptions(data: Uint8Array): ReadonlyMap<number, Uint8Array> {
  const options = new Map<number, Uint8Array>();
  for (let at = FIXED_BYTES; at < data.length && data[at] !== OPTION.end; ) {
    const code = data[at]!;
    if (code === 0) {
      at++;
      continue;
    }
    const length = data[at + 1] ?? 0;
    if (at + 2 + length > data.length) break;
    if (!options.has(code)) options.set(code, data.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
  return options;
}

/** `address` null: one without an address (a refusal, or an answer to INFORM). */
function answer(request: Uint8Array, server: DhcpServer, type: number, address: number | null): DhcpAnswer {
  const number = (value: number): number[] => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
  const options: [number, readonly number[]][] = [
    [OPTION.messageType, [type]],
    [OPTION.server, number(server.address)],
  ];
  if (address !== null) options.push([OPTION.leaseTime, number(LEASE_SECONDS)]);
  const text = (value: string): number[] => [...value].map((c) => c.charCodeAt(0));
  const host = server.hostOf(readMac(request, 28));
  if (type !== MESSAGE.nak && host !== null) options.push([OPTION.hostName, text(host)]);
  if (type !== MESSAGE.nak)
    options.push(
      [OPTION.mask, number(server.mask)],
      [OPTION.router, number(server.address)],
      [OPTION.dns, number(server.address)],
      [OPTION.domain, text(server.domain)],
      [OPTION.broadcast, number(server.broadcast)],
      [OPTION.mtu, [server.mtu >> 8, server.mtu & 255]],
    );
  const tail = [...options.flatMap(([code, value]) => [code, value.length, ...value]), OPTION.end];
  const data = new Uint8Array(Math.max(LEAST_BYTES, FIXED_BYTES + tail.length));
  data.set([2, 1, 6, 0]);
  data.set(request.subarray(4, 8), 4);
  data.set(request.subarray(10, 12), 10);
  const client = read32(request, 12);
  const mac = readMac(request, 28);
  if (type !== MESSAGE.nak) write32(data, 12, client);
  write32(data, 16, address ?? 0);
  write32(data, 20, type === MESSAGE.nak ? 0 : server.address);
  writeMac(data, 28, mac);
  write32(data, 236, COOKIE);
  data.set(tail, FIXED_BYTES);
  const broadcasts = (request[10]! & 0x80) !== 0;
  const reached = client !== 0 ? client : broadcasts ? null : address;
  return { data, to: reached === null || type === MESSAGE.nak ? null : { mac, address: reached } };
}
