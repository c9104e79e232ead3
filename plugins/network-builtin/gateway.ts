/**
 * The gateway of a bridge: a station with the first address of the bridge's /24 that answers ARP, ping, DHCP and DNS, and refuses the rest in ways
 * that callers notice at once (TCP by a reset, UDP by port unreachable, other networks by network unreachable).
 *
 * It has no clock and no state but the leases; it answers in the instant in which it is asked. Invariants: at most one frame is sent for one
 * that is received; nothing is sent in answer to a broadcast (but DHCP and ARP), to an ICMP error or to a reset, so that there are no loops.
 * Not supported: IPv6, fragments, routing to other bridges or to the host's network.
 */
import {
  BROADCAST,
  type Bridge,
  type Endpoint,
  ETHERTYPE,
  type Frame,
  isGroup,
  type Port,
  PROTOCOL,
  read16,
  readMac,
} from "../lib-switch/index.ts";
import { answerDhcp, DHCP_CLIENT_PORT, DHCP_SERVER_PORT, type DhcpServer } from "./dhcp.ts";
import { answerDns, DNS_PORT, type DnsNames } from "./dns.ts";
import { Leases, subnetOf } from "./leases.ts";
import {
  arpReply,
  type Ipv4Packet,
  icmpFrame,
  readArpRequest,
  readIcmp,
  readIpv4,
  readUdp,
  resetFrame,
  udpFrame,
} from "./packets.ts";

/** Names of domains are answered with and without this. */
export const DOMAIN = "hookvisor.internal";
/** The gateway's own name. */
export const GATEWAY_NAME = "gateway";
const MASK = 0xffff_ff00;
const ANY = 0;
const EVERYBODY = 0xffff_ffff;
/** 02:00 and the four bytes of the address: locally administered. */
const GATEWAY_OUI = 0x0200_0000_0000;
const ICMP = Object.freeze({ echoReply: 0, unreachable: 3, echo: 8 });
const UNREACHABLE = Object.freeze({ network: 0, host: 1, protocol: 2, port: 3 });
const DEFAULT_MTU = 1500;
/** Names of domains that are host names, too (RFC 1123). */
const HOST_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;

export class Gateway implements Endpoint {
  readonly name: string;
  readonly owner = null;
  readonly mac: number;
  readonly ip: number;
  readonly mtu = 0xffff;
  readonly leases: Leases;
  readonly #subnet: number;
  readonly #broadcast: number;
  readonly #port: Port;
  readonly #names: DnsNames;

  /** Attaches itself to the bridge. */
  constructor(bridge: Bridge) {
    this.name = `gateway-${bridge.name}`;
    this.#subnet = subnetOf(bridge.number);
    this.#broadcast = this.#subnet + 255;
    this.ip = this.#subnet + 1;
    this.mac = GATEWAY_OUI + this.ip;
    this.leases = new Leases(this.#subnet);
    this.#names = {
      domain: DOMAIN,
      addressesOf: (host) => this.#addressesOf(host),
      hostOf: (address) => this.#hostOf(address),
    };
    this.#port = bridge.attach(this);
    this.#port.pin(this.mac);
    bridge.observe({
      attached: (port) => port !== this.#port && this.leases.attached(port),
      detached: (port) => this.leases.detached(port),
    });
  }

  deliver(frame: Frame, now: number, from: Port): void {
    const { bytes } = frame;
    const target = readMac(bytes, 0);
    const sender = readMac(bytes, 6);
    if ((target !== this.mac && target !== BROADCAST) || isGroup(sender)) return;
    const type = read16(bytes, 12);
    const reply =
      type === ETHERTYPE.arp
        ? this.#arp(frame, sender)
        : type === ETHERTYPE.ipv4
          ? this.#ipv4(frame, sender, target !== this.mac, from)
          : null;
    if (reply !== null) this.#port.send(reply, now);
  }

  #arp(frame: Frame, sender: number): Frame | null {
    const request = readArpRequest(frame);
    if (request?.target !== this.ip) return null;
    return arpReply({ sourceMac: this.mac, targetMac: sender, source: this.ip, target: request.sender });
  }

  #ipv4(frame: Frame, sender: number, broadcast: boolean, from: Port): Frame | null {
    const packet = readIpv4(frame);
    if (packet === null) return null;
    const { source, target, protocol } = packet;
    const udp = protocol === PROTOCOL.udp ? readUdp(packet) : null;
    if (udp?.targetPort === DHCP_SERVER_PORT && udp.sourcePort === DHCP_CLIENT_PORT) {
      const ours = target === this.ip || target === EVERYBODY || target === this.#broadcast;
      return ours ? this.#dhcp(udp.data, from) : null;
    }
    // Whoever has no address of this network cannot be answered.
    if (broadcast || source === this.ip || source === this.#broadcast || (source & MASK) >>> 0 !== this.#subnet)
      return null;
    if (target === EVERYBODY || target === ANY || target === this.#broadcast || target >= 0xe000_0000) return null;
    if (target !== this.ip) {
      const local = (target & MASK) >>> 0 === this.#subnet;
      return this.#unreachable(packet, sender, local ? UNREACHABLE.host : UNREACHABLE.network);
    }
    const route = { sourceMac: this.mac, targetMac: sender, source: this.ip, target: source };
    switch (protocol) {
      case PROTOCOL.icmp: {
        const echo = readIcmp(packet);
        return echo?.type === ICMP.echo && echo.code === 0 ? icmpFrame(route, ICMP.echoReply, 0, echo.body) : null;
      }
      case PROTOCOL.tcp:
        return resetFrame(route, packet);
      case PROTOCOL.udp: {
        if (udp === null) return null;
        if (udp.targetPort !== DNS_PORT) return this.#unreachable(packet, sender, UNREACHABLE.port);
        const data = answerDns(udp.data, this.#names);
        return data === null ? null : udpFrame(route, { sourcePort: DNS_PORT, targetPort: udp.sourcePort, data });
      }
      default:
        return this.#unreachable(packet, sender, UNREACHABLE.protocol);
    }
  }

  /** An ICMP error about a packet: its header and the first 8 bytes behind it (RFC 792). Never about an ICMP message that is no echo. */
  #unreachable(packet: Ipv4Packet, sender: number, code: number): Frame | null {
    const { header, payload, protocol, source } = packet;
    if (protocol === PROTOCOL.icmp && payload[0] !== ICMP.echo) return null;
    const body = new Uint8Array(4 + header.length + Math.min(8, payload.length));
    body.set(header, 4);
    body.set(payload.subarray(0, 8), 4 + header.length);
    const route = { sourceMac: this.mac, targetMac: sender, source: this.ip, target: source };
    return icmpFrame(route, ICMP.unreachable, code, body);
  }

  #dhcp(data: Uint8Array, from: Port): Frame | null {
    const server: DhcpServer = {
      address: this.ip,
      mask: MASK,
      broadcast: this.#broadcast,
      domain: DOMAIN,
      mtu: Math.min(from.endpoint.mtu, DEFAULT_MTU),
      addressOf: (mac) => this.leases.request(mac, from)?.address ?? null,
      hostOf: (mac) => {
        const owner = this.leases.of(mac)?.owner ?? null;
        return owner !== null && HOST_NAME.test(owner) ? owner : null;
      },
      declined: (mac, address) => this.leases.decline(mac, address, from),
    };
    const answer = answerDhcp(data, server);
    if (answer === null) return null;
    const { mac, address } = answer.to ?? { mac: BROADCAST, address: EVERYBODY };
    const route = { sourceMac: this.mac, targetMac: mac, source: this.ip, target: address };
    return udpFrame(route, { sourcePort: DHCP_SERVER_PORT, targetPort: DHCP_CLIENT_PORT, data: answer.data });
  }

  #addressesOf(host: string): readonly number[] {
    if (host === GATEWAY_NAME) return [this.ip];
    return this.leases.all
      .filter((lease) => lease.port !== null && lease.owner?.toLowerCase() === host)
      .map((lease) => lease.address)
      .sort((a, b) => a - b);
  }

  #hostOf(address: number): string | null {
    if (address === this.ip) return GATEWAY_NAME;
    return this.leases.all.find((lease) => lease.address === address && lease.port !== null)?.owner ?? null;
  }
}
