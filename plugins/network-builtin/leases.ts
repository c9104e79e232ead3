/**
 * Which station has which address on one bridge.
 *
 * A device gets its address when it is attached, before its guest asks: the address that its spec names, else that of an earlier device of a
 * domain of the same name that is gone (a reboot), else the lowest that nobody has. So addresses follow from the order of domains alone. Other stations
 * (bridges within guests) get theirs when they ask.
 * Invariants: an address has one lease; the leases of attached devices are never taken away; a port has at most MOST_EXTRA other stations, so that
 * one guest cannot use up the addresses of all.
 */
import { type Port, read32 } from "../lib-switch/index.ts";

/** Stations of one port beyond the device itself. */
export const MOST_EXTRA = 16;
const FIRST_HOST = 2;
const LAST_HOST = 254;

/** Who has an address. */
export interface Lease {
  readonly address: number;
  readonly mac: number;
  /** Name of the domain. */
  readonly owner: string | null;
  /** The port at which it is; null: gone. */
  readonly port: Port | null;
}

/** The addresses of one /24. */
export class Leases {
  readonly #subnet: number;
  /** By address, least lately given first. */
  readonly #leases = new Map<number, Lease>();
  /** Addresses that a client found to be in use by somebody else. */
  readonly #declined = new Set<number>();

  /** `subnet`: the network's address; the gateway has number 1. */
  constructor(subnet: number) {
    this.#subnet = subnet;
  }

  get all(): readonly Lease[] {
    return [...this.#leases.values()];
  }

  of(mac: number): Lease | null {
    for (const lease of this.#leases.values()) if (lease.mac === mac) return lease;
    return null;
  }

  /** A device comes to the bridge. */
  attached(port: Port): void {
    const { mac, owner, ip } = port.endpoint;
    if (mac === null) return;
    const wanted = ip !== null && this.#isHost(ip) && this.#leases.get(ip)?.port == null ? ip : null;
    const before =
      this.of(mac) ?? this.all.find((lease) => lease.port === null && owner !== null && lease.owner === owner);
    if (before !== undefined && before.port !== null && before.port !== port) return;
    const address = wanted ?? before?.address ?? this.#free();
    if (address === null) return;
    if (before !== undefined) this.#leases.delete(before.address);
    this.#set({ address, mac, owner, port });
  }

  /** A device goes: its address is kept for it until it is needed. */
  detached(port: Port): void {
    for (const lease of this.all) if (lease.port === port) this.#leases.set(lease.address, { ...lease, port: null });
  }

  /** The address of a station that asks at `port`; null: there is none left for it. */
  request(mac: number, port: Port): Lease | null {
    const own = this.of(mac);
    if (own !== null && own.port !== null) return own;
    const extra = this.all.filter((lease) => lease.port === port && lease.mac !== port.endpoint.mac);
    if (extra.length >= MOST_EXTRA) this.#leases.delete(extra[0]!.address);
    const address = own?.address ?? this.#free();
    return address === null ? null : this.#set({ address, mac, owner: null, port });
  }

  /** The client, at `port`, says that somebody else uses its address: it gets another one. */
  decline(mac: number, address: number, port: Port): void {
    const lease = this.of(mac);
    if (lease === null || lease.address !== address || lease.port !== port) return;
    this.#leases.delete(address);
    if (this.#declined.size >= MOST_EXTRA) this.#declined.clear();
    this.#declined.add(address);
    const other = this.#free();
    if (other !== null) this.#set({ ...lease, address: other });
  }

  #set(lease: Lease): Lease {
    this.#leases.delete(lease.address);
    this.#leases.set(lease.address, lease);
    return lease;
  }

  #isHost(address: number): boolean {
    const host = address - this.#subnet;
    return host >= FIRST_HOST && host <= LAST_HOST;
  }

  /** The lowest address that nobody has; else that of whoever is gone for longest; null: all are in use. */
  #free(): number | null {
    for (let address = this.#subnet + FIRST_HOST; address <= this.#subnet + LAST_HOST; address++)
      if (!this.#leases.has(address) && !this.#declined.has(address)) return address;
    const gone = this.all.find((lease) => lease.port === null);
    if (gone === undefined) return null;
    this.#leases.delete(gone.address);
    return gone.address;
  }
}

/** The /24 of a bridge by its number: 10.0.NUMBER.0. */
export function subnetOf(number: number): number {
  return read32(Uint8Array.of(10, 0, number, 0), 0);
}
