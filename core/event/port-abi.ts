/**
 * How a domain's ports are shown to it: the 2-level bitmaps of a guest's shared info page, or the host's handlers; the FIFO ABI, which
 * a guest may switch to, is in fifo-ports.ts.
 *
 * Invariant: ports are checked by EventChannels before they come here.
 */
import type { Domain } from "../domain/domain.ts";
import type { Vcpu } from "../domain/vcpu.ts";
import type { Machine } from "../machine/machine.ts";
import { markEventsPending, wakePollers } from "./wake.ts";

/** The presentation of ports. */
export interface PortAbi {
  /** Number of ports, the reserved port 0 included. */
  readonly limit: number;
  /** Raises an event; `vcpu` is the one that the port notifies. */
  setPending(vcpu: Vcpu | null, port: number): void;
  clearPending(port: number): void;
  isPending(port: number): boolean;
  isMasked(port: number): boolean;
  /** Clears the mask; an event that was pending is delivered. */
  unmask(vcpu: Vcpu | null, port: number): void;
  /** A closed port was taken for a new channel. */
  opened?(port: number): void;
  /** A closed port that may not be taken yet: the guest has its last event still on a list. */
  isBusy?(port: number): boolean;
  /** Absent: the ABI knows no priorities. 0 or a negative errno. */
  setPriority?(port: number, priority: number): number;
}

/** The 2-level ABI (Xen: common/event_2l.c). Without a shared info page no event can be pending. */
export class TwoLevelPorts implements PortAbi {
  readonly limit: number;
  readonly #machine: Machine;
  readonly #domain: Domain;

  constructor(machine: Machine, domain: Domain) {
    this.#machine = machine;
    this.#domain = domain;
    this.limit = (domain.abi.wordBytes * 8) ** 2;
  }

  setPending(vcpu: Vcpu | null, port: number): void {
    const { shared } = this.#domain;
    if (shared === null || shared.setPending(port)) return;
    if (!shared.isMasked(port) && vcpu !== null && !shared.select(vcpu, port)) markEventsPending(this.#machine, vcpu);
    wakePollers(this.#machine, this.#domain, port);
  }

  clearPending(port: number): void {
    this.#domain.shared?.clearPending(port);
  }

  isPending(port: number): boolean {
    return this.#domain.shared?.isPending(port) ?? false;
  }

  isMasked(port: number): boolean {
    return this.#domain.shared?.isMasked(port) ?? true;
  }

  unmask(vcpu: Vcpu | null, port: number): void {
    const { shared } = this.#domain;
    if (shared === null || !shared.clearMask(port) || !shared.isPending(port)) return;
    if (vcpu !== null && !shared.select(vcpu, port)) markEventsPending(this.#machine, vcpu);
  }
}

/** Ports of domain 0, the host process: a pending port queues one call of its handler, before the next guest entry. */
export class HostPorts implements PortAbi {
  readonly limit = 0x20000;
  readonly #machine: Machine;
  readonly #handlers = new Map<number, () => void>();
  readonly #pending = new Set<number>();

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** Sets what an event of `port` calls; null removes it. */
  handle(port: number, handler: (() => void) | null): void {
    if (handler === null) {
      this.#handlers.delete(port);
      this.#pending.delete(port);
    } else this.#handlers.set(port, handler);
  }

  setPending(_vcpu: Vcpu | null, port: number): void {
    if (this.#pending.has(port)) return;
    const handler = this.#handlers.get(port);
    if (handler === undefined) return;
    this.#pending.add(port);
    this.#machine.post(() => {
      if (this.#handlers.get(port) !== handler || !this.#pending.delete(port)) return;
      handler();
    });
  }

  clearPending(port: number): void {
    this.#pending.delete(port);
  }

  isPending(port: number): boolean {
    return this.#pending.has(port);
  }

  isMasked(): boolean {
    return false;
  }

  unmask(): void {}
}
