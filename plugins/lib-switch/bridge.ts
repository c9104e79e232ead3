/**
 * A learning switch (IEEE 802.1D without spanning tree): ports, a table of stations, flooding.
 *
 * It has no clock: whoever sends says what time it is (virtual time), so that equal inputs give equal forwarding. Delivery is a plain call, in
 * the order in which ports were attached; a port that wants a delay, as a wire has, makes it.
 * Invariants: a frame never returns to the port that sent it and reaches no port twice; a group address is never learned; a pinned station
 * belongs to its port for ever; a port has at most MOST_STATIONS stations, the one not heard of for longest is forgotten first.
 */
import { ETHERNET_HEADER, type Frame, isGroup, readMac } from "./frame.ts";

/** Virtual time for which a station is remembered that is not heard of. */
export const AGING = 300e9;
/** Stations of one port, at most. */
export const MOST_STATIONS = 256;
/** 01:80:c2:00:00:00 to 0f are for the switch itself and never forwarded. */
const RESERVED = 0x0180_c200_0000;
/** Bytes beyond the MTU that a frame may have: its header and a VLAN tag. */
const FRAME_OVERHEAD = ETHERNET_HEADER + 4;
/** Bytes of IP and TCP headers in a segment at least. */
const LEAST_HEADERS = 40;

/** What is at a port. */
export interface Endpoint {
  /** Name of the port, such as vif1.0. */
  readonly name: string;
  /** Domain that it belongs to, by name; null: none. */
  readonly owner: string | null;
  /** The station's own address, if it is known. */
  readonly mac: number | null;
  /** IPv4 address that the station is meant to have, if its owner said. */
  readonly ip: number | null;
  /** Bytes of payload that a frame may have at most. */
  readonly mtu: number;
  /** Takes a frame that a port sent; must neither change it nor throw. */
  deliver(frame: Frame, now: number, from: Port): void;
}

interface Station {
  readonly port: Port;
  seen: number;
  readonly pinned: boolean;
}

/** Told of every frame that a port sends; for captures. */
export type FrameListener = (bridge: Bridge, port: Port, frame: Frame, now: number) => void;

/** What a port has moved. */
export interface PortCounters {
  sent: number;
  delivered: number;
  dropped: number;
}

/** One port of a bridge. */
export class Port {
  readonly bridge: Bridge;
  readonly endpoint: Endpoint;
  readonly counters: PortCounters = { sent: 0, delivered: 0, dropped: 0 };
  /** Its stations, least lately heard of first. */
  readonly stations = new Map<number, Station>();

  constructor(bridge: Bridge, endpoint: Endpoint) {
    this.bridge = bridge;
    this.endpoint = endpoint;
  }

  /** Sends a frame into the bridge at virtual time `now`. */
  send(frame: Frame, now: number): void {
    this.bridge.forward(this, frame, now);
  }

  /** Binds a station to this port for ever: no other port can take its address over. */
  pin(mac: number): void {
    this.bridge.pin(this, mac);
  }

  /** Leaves the bridge; frames sent later are dropped. */
  detach(): void {
    this.bridge.detach(this);
  }
}

/** Told when ports come and go. */
export interface BridgeObserver {
  attached(port: Port): void;
  detached(port: Port): void;
}

export class Bridge {
  readonly name: string;
  /** Number of the bridge within its network; decides its addresses. */
  readonly number: number;
  readonly #ports: Port[] = [];
  readonly #stations = new Map<number, Station>();
  readonly #observers: BridgeObserver[] = [];
  readonly #listener: FrameListener;

  constructor(name: string, number: number, listener: FrameListener = () => {}) {
    this.name = name;
    this.number = number;
    this.#listener = listener;
  }

  get ports(): readonly Port[] {
    return this.#ports;
  }

  /** Observes ports that come and go from now on, and those that are there. */
  observe(observer: BridgeObserver): void {
    this.#observers.push(observer);
    for (const port of this.#ports) observer.attached(port);
  }

  attach(endpoint: Endpoint): Port {
    const port = new Port(this, endpoint);
    this.#ports.push(port);
    for (const observer of this.#observers) observer.attached(port);
    return port;
  }

  detach(port: Port): void {
    const at = this.#ports.indexOf(port);
    if (at < 0) return;
    this.#ports.splice(at, 1);
    for (const mac of port.stations.keys()) this.#stations.delete(mac);
    port.stations.clear();
    for (const observer of this.#observers) observer.detached(port);
  }

  pin(port: Port, mac: number): void {
    this.#stations.get(mac)?.port.stations.delete(mac);
    const station = { port, seen: 0, pinned: true };
    this.#stations.set(mac, station);
    port.stations.set(mac, station);
  }

  /** The port behind which a station is, as far as is known at `now`. */
  portOf(mac: number, now: number): Port | null {
    const station = this.#stations.get(mac);
    if (station === undefined) return null;
    return station.pinned || now - station.seen < AGING ? station.port : null;
  }

  /** Learns from a frame and forwards it. */
  forward(from: Port, frame: Frame, now: number): void {
    const { bytes } = frame;
    if (from.bridge !== this || !this.#ports.includes(from) || bytes.length < ETHERNET_HEADER) {
      from.counters.dropped++;
      return;
    }
    from.counters.sent++;
    this.#listener(this, from, frame, now);
    const source = readMac(bytes, 6);
    const target = readMac(bytes, 0);
    if (!this.#learn(from, source, now) || (target >= RESERVED && target < RESERVED + 16)) {
      from.counters.dropped++;
      return;
    }
    const known = isGroup(target) ? null : this.portOf(target, now);
    if (known !== null) {
      if (known !== from) deliver(known, frame, now, from);
      return;
    }
    for (const port of [...this.#ports]) if (port !== from) deliver(port, frame, now, from);
  }

  /** False: the frame claims to be from a station that is pinned to another port. */
  #learn(port: Port, mac: number, now: number): boolean {
    if (isGroup(mac) || mac === 0) return true;
    const station = this.#stations.get(mac);
    if (station?.pinned === true) return station.port === port;
    station?.port.stations.delete(mac);
    const renewed = { port, seen: now, pinned: false };
    this.#stations.set(mac, renewed);
    port.stations.set(mac, renewed);
    if (port.stations.size > MOST_STATIONS)
      for (const [oldest, { pinned }] of port.stations) {
        if (pinned) continue;
        port.stations.delete(oldest);
        this.#stations.delete(oldest);
        break;
      }
    return true;
  }
}

/** Hands a frame to a port, unless it is longer than what its station takes. */
function deliver(port: Port, frame: Frame, now: number, from: Port): void {
  const { endpoint, counters } = port;
  const { segmentation, bytes } = frame;
  const long =
    segmentation === null
      ? bytes.length > endpoint.mtu + FRAME_OVERHEAD
      : segmentation.size > endpoint.mtu - LEAST_HEADERS;
  if (long) {
    counters.dropped++;
    return;
  }
  counters.delivered++;
  endpoint.deliver(frame, now, from);
}
