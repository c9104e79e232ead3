/**
 * The virtio network device (virtio 1.2, section 5.1) on lib-virtio's MMIO transport: a port of a bridge as a guest's network device.
 *
 * What the guest sends goes to the bridge in the same instant; what the bridge sends reaches the guest after the latency of the wire. Frames keep what the
 * sender left undone (checksum, segmentation) as long as the receiver takes it so.
 * Invariants: the port exists from creation to the end, so that a station keeps its place; while the driver is not ready, frames to it are dropped, and what was on the
 * way when it reset the device never arrives; a packet whose contents are wrong is dropped and hurts no other.
 * Not supported: the control queue, several queue pairs, hashing (none is offered).
 */
import type { DeviceHost, DeviceType } from "hookvisor";
import {
  adapt,
  type Endpoint,
  ETHERNET_HEADER,
  type Frame,
  type Network,
  type Port,
  parseVifSpec,
  stationMac,
  stationName,
  type VifSpec,
  Wire,
  writeMac,
} from "../lib-switch/index.ts";
import {
  type Chain,
  choosePlace,
  type PlaceSpec,
  QueueError,
  splitPlace,
  VIRTIO_ID,
  type VirtioLink,
  VirtioMmio,
  type VirtioModel,
  type Virtqueue,
} from "../lib-virtio/index.ts";
import { congested, frameOf, HEADER, MOST_FRAME, type Offloads, putHeader } from "./header.ts";

/** Feature bits. */
export const NET_F = Object.freeze({
  checksum: 0,
  guestChecksum: 1,
  mtu: 3,
  mac: 5,
  guestTso4: 7,
  guestTso6: 8,
  guestEcn: 9,
  hostTso4: 11,
  hostTso6: 12,
  hostEcn: 13,
  mergeBuffers: 15,
  status: 16,
});
const RECEIVE = 0;
const TRANSMIT = 1;
const LINK_UP = 1;
/** Bytes of the configuration. */
const CONFIG = 12;
/** Lines in the log about bad packets, from one reset to the next. */
const MOST_COMPLAINTS = 8;

/** One network device. */
export interface VirtioNetConfig {
  readonly vif: VifSpec;
  readonly place: PlaceSpec;
}

/** The device type on the bridges of one hypervisor; `network` is asked for when a device is created. */
export function createVirtioNetType(network: () => Network): DeviceType<VirtioNetConfig> {
  return Object.freeze({
    type: "virtio-net",
    kind: "emulated",
    parse(spec: string): VirtioNetConfig {
      const { place, rest } = splitPlace("Network device", spec);
      return { vif: parseVifSpec(rest), place };
    },
    deviceId({ vif }: VirtioNetConfig, taken: ReadonlySet<number>): number {
      if (vif.devid !== null) return vif.devid;
      let id = 0;
      while (taken.has(id)) id++;
      return id;
    },
    create: (host: DeviceHost, { vif, place }: VirtioNetConfig) =>
      new VirtioMmio(host, choosePlace(place, host), new VirtioNet(host, vif, network())),
  });
}

/** What there is from DRIVER_OK to the reset. */
interface Session {
  readonly link: VirtioLink;
  readonly receive: Virtqueue | null;
  readonly transmit: Virtqueue | null;
  readonly wire: Wire;
  /** What the driver may leave to us, and we to it. */
  readonly sends: Offloads;
  readonly accepts: Offloads;
  /** A frame may be spread over several chains. */
  readonly merges: boolean;
  complaints: number;
}

class VirtioNet implements VirtioModel, Endpoint {
  readonly deviceId = VIRTIO_ID.net;
  readonly features: readonly number[] = Object.values(NET_F);
  readonly queues = 2;
  readonly config = new Uint8Array(CONFIG);
  readonly name: string;
  readonly owner: string;
  readonly mac: number;
  readonly ip: number | null;
  readonly mtu: number;
  readonly #host: DeviceHost;
  readonly #port: Port;
  readonly #header = new DataView(new ArrayBuffer(HEADER));
  readonly #headerBytes = new Uint8Array(this.#header.buffer);
  #session: Session | null = null;

  constructor(host: DeviceHost, spec: VifSpec, network: Network) {
    const bridge = network.bridge(spec.bridge);
    const id = Number(host.backend.path.slice(host.backend.path.lastIndexOf("/") + 1));
    this.#host = host;
    this.name = stationName(spec, id, host);
    this.owner = host.domain.name;
    this.ip = spec.ip;
    this.mtu = spec.mtu;
    this.mac = stationMac(spec, id, host, network);
    if (spec.ignored.length > 0) host.log(`${spec.ignored.join(", ")}: ignored`);
    const config = new DataView(this.config.buffer);
    writeMac(this.config, 0, this.mac);
    config.setUint16(6, LINK_UP, true);
    config.setUint16(8, 1, true); // queue pairs
    config.setUint16(10, this.mtu, true);
    this.#port = bridge.attach(this);
  }

  start(link: VirtioLink): void {
    const { guestChecksum, guestTso4, guestTso6, guestEcn, checksum, hostTso4, hostTso6, hostEcn } = NET_F;
    const offloads = (sum: number, tso4: number, tso6: number, ecn: number): Offloads => ({
      checksum: link.has(sum),
      // A segment that stands for several always has a partial checksum.
      gso4: link.has(sum) && link.has(tso4),
      gso6: link.has(sum) && link.has(tso6),
      ecn: link.has(ecn),
    });
    const { timer, now } = this.#host;
    const session: Session = {
      link,
      receive: link.queue(RECEIVE),
      transmit: link.queue(TRANSMIT),
      wire: new Wire({ timer, now, due: () => link.burst(() => this.#receive(session)) }),
      sends: offloads(checksum, hostTso4, hostTso6, hostEcn),
      accepts: offloads(guestChecksum, guestTso4, guestTso6, guestEcn),
      merges: link.has(NET_F.mergeBuffers),
      complaints: 0,
    };
    this.#session = session;
    session.receive?.listen(false);
    this.#transmit(session);
  }

  notified(queue: number): void {
    const session = this.#session;
    if (session === null) return;
    if (queue === TRANSMIT) this.#transmit(session);
    else this.#receive(session);
  }

  stop(): void {
    this.#session?.wire.stop();
    this.#session = null;
  }

  close(): void {
    this.stop();
    this.#port.detach();
  }

  /** A frame from the bridge. */
  deliver(frame: Frame, now: number): void {
    const session = this.#session;
    if (session === null || session.receive === null) return;
    const { checksum, gso4, gso6, ecn } = session.accepts;
    const whole = ecn || !congested(frame);
    const frames = adapt(frame, {
      partial4: checksum,
      partial6: checksum,
      gso4: gso4 && whole,
      gso6: gso6 && whole,
    });
    session.wire.put(frames, now, MOST_FRAME);
  }

  /** Takes all packets that the guest sends. Within a burst. */
  #transmit(session: Session): void {
    const { link, transmit } = session;
    if (transmit === null || link.queue(TRANSMIT) !== transmit) return;
    for (let chain = transmit.take(); chain !== null; chain = transmit.take()) {
      const frame = this.#read(session, transmit, chain);
      transmit.put(chain, 0);
      if (typeof frame === "string") this.#complain(session, frame);
      else this.#port.send(frame, this.#host.now());
    }
    transmit.listen(true);
    link.publish(transmit);
  }

  #read({ sends }: Session, { memory }: Virtqueue, { readable, readLength }: Chain): Frame | string {
    const length = readLength - HEADER;
    if (length < ETHERNET_HEADER || length > MOST_FRAME) return `a packet of ${length} bytes`;
    const bytes = new Uint8Array(length);
    memory.read(readable, 0, this.#headerBytes);
    memory.read(readable, HEADER, bytes);
    return frameOf(this.#header, bytes, sends);
  }

  /** Gives the guest what has arrived and has room. Within a burst. */
  #receive(session: Session): void {
    const { link, receive, wire } = session;
    if (receive === null || link.queue(RECEIVE) !== receive) return;
    let starved = false;
    for (let frame = wire.head(); frame !== null; frame = wire.head()) {
      if (!this.#give(session, receive, frame)) {
        if (!wire.stale) {
          starved = true;
          break;
        }
        wire.dropped++;
      }
      wire.shift();
    }
    receive.listen(starved);
    wire.rest();
    link.publish(receive);
  }

  /** Copies a frame into as many chains as it needs; false: there are not enough yet. */
  #give({ accepts, merges, wire }: Session, queue: Virtqueue, frame: Frame): boolean {
    const { bytes } = frame;
    const chains: Chain[] = [];
    let room = 0;
    while (room < HEADER + bytes.length) {
      const chain = queue.take();
      if (chain === null) {
        queue.putBack(chains.length);
        return false;
      }
      if (chains.length === 0 && chain.writeLength < HEADER)
        throw new QueueError(`a buffer of ${chain.writeLength} bytes for packets`);
      chains.push(chain);
      room += chain.writeLength;
      if (merges || room >= HEADER + bytes.length) continue;
      // The driver takes no frame of this size.
      queue.putBack();
      wire.dropped++;
      return true;
    }
    putHeader(this.#header, frame, accepts, chains.length);
    let done = 0;
    for (const [i, chain] of chains.entries()) {
      const skip = i === 0 ? HEADER : 0;
      const part = Math.min(chain.writeLength - skip, bytes.length - done);
      if (i === 0) queue.memory.write(chain.writable, 0, this.#headerBytes);
      queue.memory.write(chain.writable, skip, bytes.subarray(done, done + part));
      queue.put(chain, skip + part);
      done += part;
    }
    return true;
  }

  #complain(session: Session, what: string): void {
    session.complaints++;
    if (session.complaints <= MOST_COMPLAINTS) this.#host.log(`packet refused: ${what}`);
    if (session.complaints === MOST_COMPLAINTS)
      this.#host.log("further bad packets are not logged until the next reset");
  }
}
