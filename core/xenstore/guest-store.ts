/**
 * XenStore and the machine: the service, the rings of domains, the event channels that drive them.
 *
 * A domain's ring page is mapped as domain 0 maps it (a reference and a writable type are held); its port is bound to a
 * handler; answers and watch events that domain 0's own writes cause are moved out by `pump`, which the run loop calls
 * between steps.
 * Invariants: nothing is delivered inside a guest's send; a released domain's page holds no reference.
 */
import type { Domain } from "../domain/domain.ts";
import { FRAME_SIZE, FrameType } from "../machine/frames.ts";
import type { Machine } from "../machine/machine.ts";
import type { XenStoreClient } from "./client.ts";
import { XenStoreRing } from "./ring.ts";
import { XenStoreService } from "./service.ts";

interface Attached {
  readonly domain: Domain;
  readonly ring: XenStoreRing;
  readonly mfn: number;
  readonly channel: { notify(): void; close(): void };
}

/** Most callbacks of domain 0's watches between two steps of the run loop. */
const CALLBACKS = 10_000;

/** The store of one machine. */
export class GuestStore {
  readonly machine: Machine;
  readonly service: XenStoreService;
  /** Domain 0's client: backends and toolstacks write through it. */
  readonly client: XenStoreClient;
  readonly #attached = new Map<number, Attached>();

  constructor(machine: Machine) {
    this.machine = machine;
    this.service = new XenStoreService({
      host: {
        domainExists: (domid) => machine.domains.has(domid) && !machine.domains.get(domid)?.dying,
        released: (domid) => this.#detach(domid),
        print: (text) => machine.log(`xenstore: ${text}`),
      },
    });
    this.client = this.service.client();
  }

  /** Connects a domain by the ring page and port that its builder made: XS_INTRODUCE as the domain builder does it. */
  introduce(domain: Domain): void {
    const { frames } = this.machine;
    const { mfn: gfn, port } = domain.store;
    const mfn = domain.arch?.gfnToMfn(domain, gfn) ?? -1;
    if (!frames.getRef(mfn, domain.id)) throw new Error(`XenStore page ${gfn} is not ${domain}'s`);
    if (!frames.getType(mfn, FrameType.writable)) {
      frames.putRef(mfn);
      throw new Error(`XenStore page ${gfn} of ${domain} is not writable`);
    }
    try {
      const dom0 = this.machine.domains.get(0)!;
      const channel = dom0.events.bindBackend(domain, port, () => this.#poll(domain.id));
      const connection = this.service.introduceDomain(domain.id, { littleEndian: domain.abi.endian === "little" });
      const page = new DataView(frames.memory.buffer, mfn * FRAME_SIZE, FRAME_SIZE);
      const ring = new XenStoreRing(page, connection, (from, to) => frames.wrote(mfn, from, to));
      this.#attached.set(domain.id, { domain, ring, mfn, channel });
    } catch (error) {
      frames.putType(mfn);
      frames.putRef(mfn);
      throw error;
    }
  }

  /** A domain is gone for good: its connection, its nodes, its place in all permissions. */
  remove(domain: Domain): void {
    this.service.destroyDomain(domain.id);
    for (const path of [`/local/domain/${domain.id}`, `/vm/${domain.uuid}`])
      if (this.client.exists(path)) this.client.rm(path);
  }

  /** Delivers what is due: callbacks of domain 0's watches, and messages for guests. */
  pump(): void {
    if (this.service.pending() > 0) this.service.deliver(CALLBACKS);
    for (const [domid, { ring }] of this.#attached) if (ring.due) this.#poll(domid);
  }

  /** Is a callback of domain 0 due? */
  get pending(): boolean {
    return this.service.pending() > 0;
  }

  #poll(domid: number): void {
    const attached = this.#attached.get(domid);
    if (attached?.ring.poll()) attached.channel.notify();
  }

  #detach(domid: number): void {
    const attached = this.#attached.get(domid);
    if (attached === undefined) return;
    this.#attached.delete(domid);
    attached.channel.close();
    this.machine.frames.putType(attached.mfn);
    this.machine.frames.putRef(attached.mfn);
  }
}
