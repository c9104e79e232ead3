/**
 * The network device backend (xen/io/netif.h): a port of a bridge as a guest's network device.
 *
 * What the guest sends goes to the bridge in the same instant; what the bridge sends reaches the guest after the latency of the wire. Frames
 * keep what the sender left undone (blank checksum, segmentation) as long as the receiver takes it so.
 * Invariants: the port exists from creation to the end, so that a station keeps its place; while no frontend is connected, frames to it are
 * dropped; a frontend with an impossible ring is disabled with one line in the log, lets go of nothing else, and may connect again.
 * Not supported, and not advertised: several queues, the control ring, multicast control, XDP headroom, page flipping.
 */
import {
  BackRing,
  ConfigError,
  type DeviceHost,
  type DeviceType,
  type MappedPages,
  RingError,
  type SplitBackend,
} from "hookvisor";
import {
  type Endpoint,
  type Frame,
  formatIpv4,
  formatMac,
  type Network,
  type Port,
  parseVifSpec,
  stationMac,
  stationName,
  type VifSpec,
} from "../lib-switch/index.ts";
import { NetifLayout } from "./layout.ts";
import { Receive, type ReceiveFeatures } from "./receive.ts";
import { Transmit, WildRing } from "./transmit.ts";

/** Lines in the log about bad packets, a connection. */
const MOST_COMPLAINTS = 8;

/** The device type on the bridges of one hypervisor; `network` is asked for when a device is created. */
export function createVifType(network: () => Network): DeviceType<VifSpec> {
  return Object.freeze({
    type: "vif",
    parse: parseVifSpec,
    deviceId(spec: VifSpec, taken: ReadonlySet<number>): number {
      if (spec.devid !== null) return spec.devid;
      let id = 0;
      while (taken.has(id)) id++;
      return id;
    },
    create: (host: DeviceHost, spec: VifSpec) => new VifBackend(host, spec, network()),
  });
}

/** A frontend's rings, mapped. */
interface Link {
  readonly transmit: Transmit;
  readonly receive: Receive;
  readonly pages: readonly MappedPages[];
  readonly txChannel: Channel;
  readonly rxChannel: Channel;
}

interface Channel {
  notify(): void;
  close(): void;
}

class VifBackend implements SplitBackend, Endpoint {
  readonly kind = "split";
  readonly name: string;
  readonly owner: string;
  readonly mac: number;
  readonly ip: number | null;
  readonly mtu: number;
  readonly #host: DeviceHost;
  readonly #spec: VifSpec;
  readonly #id: number;
  readonly #port: Port;
  #link: Link | null = null;
  #complaints = 0;

  constructor(host: DeviceHost, spec: VifSpec, network: Network) {
    const bridge = network.bridge(spec.bridge);
    this.#host = host;
    this.#spec = spec;
    this.#id = Number(host.backend.path.slice(host.backend.path.lastIndexOf("/") + 1));
    this.name = stationName(spec, this.#id, host);
    this.owner = host.domain.name;
    this.ip = spec.ip;
    this.mtu = spec.mtu;
    this.mac = stationMac(spec, this.#id, host, network);
    if (spec.ignored.length > 0) host.log(`${spec.ignored.join(", ")}: ignored`);
    const nodes = {
      handle: String(this.#id),
      mac: formatMac(this.mac),
      mtu: String(this.mtu),
      trusted: spec.trusted ? "1" : "0",
    };
    for (const [key, value] of Object.entries(nodes)) host.frontend.write(key, value);
    this.#port = bridge.attach(this);
  }

  probe(): void {
    const { backend } = this.#host;
    const nodes: Readonly<Record<string, string>> = {
      mac: formatMac(this.mac),
      ...(this.ip === null ? {} : { ip: formatIpv4(this.ip) }),
      bridge: this.#spec.bridge,
      handle: String(this.#id),
      type: "vif",
      vifname: this.name,
      "hotplug-status": "connected",
      "feature-sg": "1",
      "feature-gso-tcpv4": "1",
      "feature-gso-tcpv6": "1",
      "feature-ipv6-csum-offload": "1",
      "feature-rx-copy": "1",
      "feature-rx-flip": "0",
      "feature-multicast-control": "0",
      "feature-split-event-channels": "1",
      "feature-ctrl-ring": "0",
      "multi-queue-max-queues": "1",
      carrier: "1",
    };
    for (const [key, value] of Object.entries(nodes)) backend.write(key, value);
  }

  connect(): void {
    const { frontend } = this.#host;
    const queues = frontend.read("multi-queue-num-queues");
    if (queues !== undefined && queues !== "1")
      throw new ConfigError(`${queues.slice(0, 20)} queues are not supported, only 1.`);
    if (frontend.read("request-rx-copy") !== "1")
      throw new ConfigError("The frontend does not ask for rx-copy, and page flipping is not supported.");
    const number = (key: string): number => nodeNumber(key, frontend.read(key));
    const references = [number("tx-ring-ref"), number("rx-ring-ref")] as const;
    const split = frontend.read("event-channel-tx") !== undefined;
    const ports = split
      ? ([number("event-channel-tx"), number("event-channel-rx")] as const)
      : ([number("event-channel")] as const);
    const layout = new NetifLayout(this.#host.domain.abi);
    const pages: MappedPages[] = [];
    const channels: Channel[] = [];
    try {
      const ring = (reference: number, slotBytes: number): BackRing => {
        const mapped = this.#host.mapGrants([reference], "rw");
        pages.push(mapped);
        return new BackRing({
          pages: mapped.pages,
          slotBytes,
          littleEndian: layout.littleEndian,
          wrote: (page, from, to) => mapped.wrote(page, from, to),
        });
      };
      const tx = ring(references[0], layout.txSlotBytes);
      const rx = ring(references[1], layout.rxSlotBytes);
      for (const port of ports) channels.push(this.#host.bindEvent(port, () => this.#poll()));
      const host = this.#host;
      const complain = (what: string): void => this.#complain(what);
      this.#link = {
        transmit: new Transmit(tx, layout, {
          mapGrants: host.mapGrants,
          complain,
          send: (frame) => this.#port.send(frame, host.now()),
        }),
        receive: new Receive(rx, layout, this.#features(), {
          mapGrants: host.mapGrants,
          timer: host.timer,
          now: host.now,
          complain,
          due: () => this.#poll(),
        }),
        pages,
        txChannel: channels[0]!,
        rxChannel: channels[1] ?? channels[0]!,
      };
    } catch (error) {
      for (const channel of channels) channel.close();
      for (const mapped of pages) mapped.unmap();
      throw error;
    }
    this.#complaints = 0;
    this.#poll();
  }

  #features(): ReceiveFeatures {
    const has = (key: string): boolean => this.#host.frontend.read(key) === "1";
    const scatterGather = has("feature-sg");
    const partial4 = !has("feature-no-csum-offload");
    const partial6 = has("feature-ipv6-csum-offload");
    return {
      scatterGather,
      notifies: has("feature-rx-notify"),
      partial4,
      partial6,
      // A segment that stands for several always has a partial checksum.
      gso4: scatterGather && partial4 && has("feature-gso-tcpv4"),
      gso6: scatterGather && partial6 && has("feature-gso-tcpv6"),
    };
  }

  disconnect(): void {
    this.#release();
  }

  close(): void {
    this.#release();
    this.#port.detach();
  }

  #release(): void {
    const link = this.#link;
    this.#link = null;
    if (link === null) return;
    link.receive.stop();
    link.txChannel.close();
    if (link.rxChannel !== link.txChannel) link.rxChannel.close();
    for (const pages of link.pages) pages.unmap();
  }

  /** A frame from the bridge. */
  deliver(frame: Frame, now: number): void {
    this.#link?.receive.deliver(frame, now);
  }

  /** Does what there is to do in both directions. */
  #poll(): void {
    const link = this.#link;
    if (link === null) return;
    try {
      const sent = link.transmit.poll();
      const received = link.receive.poll();
      if (sent) link.txChannel.notify();
      if (received && !(sent && link.rxChannel === link.txChannel)) link.rxChannel.notify();
    } catch (error) {
      if (!(error instanceof RingError || error instanceof WildRing)) throw error;
      this.#host.log(`interface closed, wild ring: ${error.message}`);
      this.#release();
      this.#host.backend.write("carrier", "0");
    }
  }

  #complain(what: string): void {
    this.#complaints++;
    if (this.#complaints <= MOST_COMPLAINTS) this.#host.log(`packet refused: ${what}`);
    if (this.#complaints === MOST_COMPLAINTS) this.#host.log("further bad packets of this connection are not logged");
  }
}

function nodeNumber(key: string, text: string | undefined): number {
  const value = text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= 0xffff_ffff))
    throw new ConfigError(
      `The frontend's node ${key} is ${text === undefined ? "missing" : `'${text.slice(0, 20)}'`}.`,
    );
  return value;
}
