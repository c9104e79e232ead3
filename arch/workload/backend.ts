/**
 * The arch backend of workload domains: the smallest port there is. Its guests have vCPUs and behaviours, no memory and no hypercalls.
 *
 * A guest's every step is decided by its behaviour (guest.ts); this file is only the contract's face. Nothing of what a real guest does by
 * hypercalls is possible, so all that core could ask on behalf of one answers its errno.
 */
import {
  type ArchBackend,
  type ArchHost,
  type BuildResult,
  type Domain,
  type DomainImage,
  type Exit,
  type GuestAbi,
  ImageError,
  type Vcpu,
  xen,
} from "hookvisor";
import { Group } from "./group.ts";
import type { Guest } from "./guest.ts";
import type { WorkloadHooks } from "./hooks.ts";
import { readImage, type WorkloadImage } from "./image.ts";

const ABI: GuestAbi = Object.freeze({
  name: "workload",
  pageShift: 12,
  wordBytes: 8,
  endian: "little",
  align64: 8,
  legacyVcpus: 32,
});

const NOTHING: BuildResult = Object.freeze({ storeMfn: -1, consoleMfn: -1 });

/** The machine's seed, where core tells it. */
type SeededHost = ArchHost & { readonly seed?: number };

export class WorkloadBackend implements ArchBackend {
  readonly #host: SeededHost;
  readonly #hooks: WorkloadHooks;
  readonly #guests = new Map<Vcpu, Guest>();
  readonly #groups = new Map<Domain, Group>();
  /** The guest asked for last: run and horizon come in turns. */
  #last: Guest | null = null;
  readonly #images = new WeakMap<Uint8Array, WorkloadImage>();

  constructor(host: ArchHost, hooks: WorkloadHooks) {
    this.#host = host;
    this.#hooks = hooks;
  }

  identify(image: Uint8Array, name: string): GuestAbi {
    this.#images.set(image, readImage(image, name));
    return ABI;
  }

  /** Gives each vCPU its behaviour and starts them all. `extra` may set the seed: `seed=7`. */
  buildDomain(domain: Domain, image: DomainImage): BuildResult {
    const read = this.#images.get(image.kernel) ?? readImage(image.kernel, image.kernelName);
    const { vcpus } = domain;
    if (read.vcpus !== null && read.vcpus !== vcpus.length)
      throw new ImageError(
        `Workload ${image.kernelName}: it describes ${count(read.vcpus, read.names)}, and domain '${domain.name}' has ${vcpus.length}; give it vcpus = ${read.vcpus}.`,
      );
    const host = this.#host;
    const seed = seedOf(image) ?? read.seed ?? host.seed ?? 1;
    const group = new Group(domain, seed, { host, hooks: this.#hooks });
    const planOf = (v: number) => read.plans[read.vcpus === null ? 0 : v]!;
    this.#groups.set(domain, group);
    group.guests.forEach((guest, v) => {
      planOf(v).enlist?.(guest, 1);
      guest.become(planOf(v).make(guest));
      this.#guests.set(guest.vcpu, guest);
    });
    for (const vcpu of vcpus) {
      vcpu.initialised = true;
      if (vcpu.id !== 0) host.vcpuUp(vcpu);
    }
    for (const note of read.notes) host.log(`${domain}: ${image.kernelName}: ${note}`);
    return NOTHING;
  }

  destroyDomain(domain: Domain): void {
    this.#groups.get(domain)?.destroy();
    this.#groups.delete(domain);
    for (const vcpu of domain.vcpus) this.#guests.delete(vcpu);
    this.#last = null;
  }

  createVcpu(): void {}

  run(vcpu: Vcpu, budget: number, exit: Exit): number {
    return this.#guestOf(vcpu).execute(budget, exit);
  }

  horizon(vcpu: Vcpu): number {
    return this.#guestOf(vcpu).horizon();
  }

  #guestOf(vcpu: Vcpu): Guest {
    let guest = this.#last;
    if (guest === null || guest.vcpu !== vcpu) {
      guest = this.#guests.get(vcpu)!;
      this.#last = guest;
    }
    return guest;
  }

  describe(vcpu: Vcpu): string {
    return this.#guests.get(vcpu)?.describe() ?? `${vcpu}: not built`;
  }

  /** Events reach nobody: a workload waits for its own timers and its own domain's vCPUs only. */
  eventsDeliverable(): boolean {
    return false;
  }

  requestExit(): void {}

  initialiseVcpu(): number {
    return -xen.ERRNO.ENOSYS;
  }

  loadArguments(_vcpu: Vcpu, into: Uint32Array): void {
    into.fill(0);
  }

  finishHypercall(): void {}

  continueHypercall(): void {}

  finishIo(): void {}

  copyFromGuest(): boolean {
    return false;
  }

  copyToGuest(): boolean {
    return false;
  }

  gfnToMfn(): number {
    return -1;
  }

  mapGrant(): number {
    return xen.GNTST.general_error;
  }

  unmapGrant(): number {
    return xen.GNTST.general_error;
  }

  setPhysmap(): number {
    return -xen.ERRNO.ENOSYS;
  }

  releaseFrame(): boolean {
    return false;
  }

  acquireFrame(): void {}
}

function count(vcpus: number, names: readonly string[]): string {
  const what = `${vcpus} vCPU${vcpus === 1 ? "" : "s"}`;
  return names.length === 0 ? what : `${what} (${names.slice(0, 4).join(", ")}${names.length > 4 ? ", ..." : ""})`;
}

/** `seed=N` of the command line. */
function seedOf({ commandLine, kernelName }: DomainImage): number | null {
  const words = commandLine.split(/\s+/).filter((word) => word !== "");
  let seed: number | null = null;
  for (const word of words) {
    const digits = /^seed=(\d{1,10})$/.exec(word)?.[1];
    if (digits === undefined || Number(digits) > 0xffffffff)
      throw new ImageError(
        `Workload ${kernelName}: extra has '${word}', which it does not know; it may be seed=N, N from 0 to 4294967295.`,
      );
    seed = Number(digits);
  }
  return seed;
}
