/**
 * The event channels of one domain (Xen: common/event_channel.c).
 *
 * Design: the state of each port is here; how pending and mask bits are shown to the domain is a PortAbi. Operations of a
 * guest return a result or a negative errno and never throw; operations of the host throw EventError.
 * Invariants: port 0 is reserved; two ports of state `interdomain` point at each other; closing one leaves its peer unbound, for
 * the domain that closed; a port of state `virq` is the one that its vCPU's virqToPort names; a dying domain gets no new port and
 * has none after `destroy`. As in Xen, closing notifies nobody, and sending on an unbound port is silently dropped.
 */
import { ERRNO, EVTCHNSTAT, NR_VIRQS, VIRQ } from "../abi/index.ts";
import { checkAccess, lookUpDomain } from "../domain/access.ts";
import type { Domain } from "../domain/domain.ts";
import type { Vcpu } from "../domain/vcpu.ts";
import type { Machine } from "../machine/machine.ts";
import { EventError } from "./event-error.ts";
import { FifoPorts } from "./fifo-ports.ts";
import { HostPorts, type PortAbi, TwoLevelPorts } from "./port-abi.ts";

/** Closed ports that are looked at for one instruction charged. */
const PORTS_PER_INSTRUCTION = 4;

/** Ports that become valid together when the first of them is allocated (Xen: EVTCHNS_PER_BUCKET). */
const BUCKET = 64;

/** Virtual interrupts with one port a vCPU; all others are global. */
const PER_VCPU: ReadonlySet<number> = new Set([VIRQ.TIMER, VIRQ.DEBUG, VIRQ.XENOPROF, VIRQ.XENPMU]);

/** One port. */
interface Port {
  /** EVTCHNSTAT_*. */
  state: number;
  /** The vCPU that it notifies. */
  vcpu: number;
  /** Unbound: who may bind; interdomain: who is bound. */
  remoteId: number;
  remote: EventChannels | null;
  remotePort: number;
  virq: number;
}

/** What EVTCHNOP_status tells. */
export interface PortStatus {
  readonly state: number;
  readonly vcpu: number;
  readonly remoteId: number;
  readonly remotePort: number;
  readonly virq: number;
}

/** Domain 0's end of a channel. */
export interface BackendPort {
  readonly port: number;
  /** Sends an event to the frontend; nothing if that has closed its end. */
  notify(): void;
  /** Closes this end; may be called again. */
  close(): void;
}

export class EventChannels {
  readonly machine: Machine;
  readonly domain: Domain;
  #abi: PortAbi;
  readonly #host: HostPorts | null;
  /** Once the domain has switched to the FIFO ABI. */
  #fifo: FifoPorts | null = null;
  readonly #ports: Port[] = [];
  #valid = BUCKET;
  #lowestFree = 1;

  /** The domain's ABI must be known; domain 0 has handlers instead of a shared info page. */
  constructor(machine: Machine, domain: Domain) {
    this.machine = machine;
    this.domain = domain;
    this.#host = domain.arch === null ? new HostPorts(machine) : null;
    this.#abi = this.#host ?? new TwoLevelPorts(machine, domain);
  }

  /** Number of ports, port 0 included. */
  get limit(): number {
    return this.#abi.limit;
  }

  #get(port: number): Port | undefined {
    return port < this.#valid ? this.#ports[port] : undefined;
  }

  /** A number in the range where Xen answers with a port's state instead of EINVAL. */
  isValid(port: number): boolean {
    return Number.isInteger(port) && port >= 0 && port < this.#valid;
  }

  /** Takes the lowest free port: its number, or -ENOSPC, or -EINVAL in a dying domain. */
  #take(state: number, vcpu: number): number {
    if (this.domain.dying) return -ERRNO.EINVAL;
    let port = this.#lowestFree;
    let busy = false;
    for (; port < this.#abi.limit; port++) {
      if ((this.#ports[port]?.state ?? EVTCHNSTAT.closed) !== EVTCHNSTAT.closed) continue;
      if (this.#abi.isBusy?.(port) !== true) break;
      busy = true;
    }
    this.machine.charge(Math.floor((port - this.#lowestFree) / PORTS_PER_INSTRUCTION));
    if (port >= this.#abi.limit) return -ERRNO.ENOSPC;
    while (this.#valid <= port) this.#valid += BUCKET;
    for (let i = this.#ports.length; i <= port; i++) this.#ports.push(closedPort());
    const taken = this.#ports[port]!;
    taken.state = state;
    taken.vcpu = vcpu;
    if (!busy) this.#lowestFree = port + 1;
    this.#abi.opened?.(port);
    return port;
  }

  #raise(number: number, port: Port): void {
    const { eventSend } = this.machine.hooks;
    if (eventSend.isUsed()) eventSend.call(this.domain, number, this.machine.now);
    this.#abi.setPending(this.domain.vcpus[port.vcpu] ?? null, number);
  }

  /** EVTCHNOP_alloc_unbound in this domain, for `remoteId` (no DOMID_SELF): the port or a negative errno. */
  allocUnbound(remoteId: number): number {
    const port = this.#take(EVTCHNSTAT.unbound, 0);
    if (port > 0) this.#ports[port]!.remoteId = remoteId;
    return port;
  }

  /** EVTCHNOP_bind_interdomain: the local port or a negative errno. The local port is pending afterwards: events may have been lost. */
  bindInterdomain(remoteId: number, remotePort: number): number {
    const remote = lookUpDomain(this.machine, this.domain, remoteId);
    if (remote === undefined) return -ERRNO.ESRCH;
    return this.#bind(remote, remotePort, null);
  }

  #bind(remoteDomain: Domain, remotePort: number, handler: (() => void) | null): number {
    const remote = remoteDomain.events;
    const local = this.#take(EVTCHNSTAT.unbound, 0);
    if (local < 0) return local;
    const mine = this.#ports[local]!;
    mine.remoteId = -1;
    const theirs = remote.#get(remotePort);
    let error = 0;
    if (
      theirs === undefined ||
      theirs === mine ||
      theirs.state !== EVTCHNSTAT.unbound ||
      theirs.remoteId !== this.domain.id
    )
      error = -ERRNO.EINVAL;
    else error = checkAccess(this.machine, this.domain, "evtchn_interdomain", remoteDomain, "hook");
    if (error < 0 || theirs === undefined) {
      this.#free(local);
      return error;
    }
    connect(mine, remote, remotePort);
    connect(theirs, this, local);
    if (handler !== null) this.#host?.handle(local, handler);
    this.#raise(local, mine);
    return local;
  }

  /** EVTCHNOP_bind_virq: the port or a negative errno. */
  bindVirq(virq: number, vcpuId: number): number {
    if (virq >= NR_VIRQS) return -ERRNO.EINVAL;
    if (vcpuId !== 0 && !PER_VCPU.has(virq)) return -ERRNO.EINVAL;
    const vcpu = this.domain.vcpus[vcpuId];
    if (vcpu === undefined) return -ERRNO.ENOENT;
    if (vcpu.virqToPort[virq] !== 0) return -ERRNO.EEXIST;
    const port = this.#take(EVTCHNSTAT.virq, vcpuId);
    if (port < 0) return port;
    this.#ports[port]!.virq = virq;
    vcpu.virqToPort[virq] = port;
    return port;
  }

  /** EVTCHNOP_bind_ipi: the port or a negative errno. */
  bindIpi(vcpuId: number): number {
    if (this.domain.vcpus[vcpuId] === undefined) return -ERRNO.ENOENT;
    return this.#take(EVTCHNSTAT.ipi, vcpuId);
  }

  /** EVTCHNOP_close. */
  close(port: number): number {
    const one = this.#get(port);
    if (one === undefined || one.state === EVTCHNSTAT.closed) return -ERRNO.EINVAL;
    if (one.state === EVTCHNSTAT.virq) {
      for (const vcpu of this.domain.vcpus) if (vcpu.virqToPort[one.virq] === port) vcpu.virqToPort[one.virq] = 0;
    } else if (one.state === EVTCHNSTAT.interdomain && one.remote !== null) {
      const peer = one.remote.#ports[one.remotePort]!;
      peer.state = EVTCHNSTAT.unbound;
      peer.remote = null;
      peer.remotePort = 0;
      peer.remoteId = this.domain.id;
    }
    this.#free(port);
    return 0;
  }

  #free(port: number): void {
    this.#abi.clearPending(port);
    this.#host?.handle(port, null);
    Object.assign(this.#ports[port]!, closedPort());
    if (port < this.#lowestFree) this.#lowestFree = port;
  }

  /** EVTCHNOP_send. */
  send(port: number): number {
    const one = this.#get(port);
    if (one === undefined) return -ERRNO.EINVAL;
    const { remote } = one;
    const refused = checkAccess(this.machine, this.domain, "evtchn_send", remote?.domain ?? this.domain, "hook");
    if (refused < 0) return refused;
    switch (one.state) {
      case EVTCHNSTAT.interdomain:
        remote!.#raise(one.remotePort, remote!.#ports[one.remotePort]!);
        return 0;
      case EVTCHNSTAT.ipi:
        this.#raise(port, one);
        return 0;
      case EVTCHNSTAT.unbound:
        return 0;
      default:
        return -ERRNO.EINVAL;
    }
  }

  /** EVTCHNOP_status; -EINVAL for a number that is no port. */
  status(port: number): PortStatus | number {
    if (!this.isValid(port)) return -ERRNO.EINVAL;
    return { ...(this.#ports[port] ?? closedPort()) };
  }

  /** EVTCHNOP_bind_vcpu. */
  bindVcpu(port: number, vcpuId: number): number {
    if (this.domain.vcpus[vcpuId] === undefined) return -ERRNO.ENOENT;
    const one = this.#get(port);
    if (one === undefined) return -ERRNO.EINVAL;
    const movable =
      one.state === EVTCHNSTAT.unbound ||
      one.state === EVTCHNSTAT.interdomain ||
      (one.state === EVTCHNSTAT.virq && !PER_VCPU.has(one.virq));
    if (!movable) return -ERRNO.EINVAL;
    one.vcpu = vcpuId;
    return 0;
  }

  /** EVTCHNOP_unmask. */
  unmask(port: number): number {
    if (!this.isValid(port)) return -ERRNO.EINVAL;
    this.#abi.unmask(this.domain.vcpus[this.#ports[port]?.vcpu ?? 0] ?? null, port);
    return 0;
  }

  /** EVTCHNOP_set_priority: -ENOSYS in the 2-level ABI. */
  setPriority(port: number, priority: number): number {
    if (!this.isValid(port)) return -ERRNO.EINVAL;
    return this.#abi.setPriority?.(port, priority) ?? -ERRNO.ENOSYS;
  }

  /** EVTCHNOP_init_control: registers a vCPU's control block; the first one switches the domain from the 2-level ABI to FIFO. */
  initControl(vcpuId: number, gfn: number, offset: number): number {
    const vcpu = this.domain.vcpus[vcpuId];
    if (vcpu === undefined) return -ERRNO.ENOENT;
    if (this.#fifo !== null) return this.#fifo.initControl(vcpu, gfn, offset);
    const fifo = new FifoPorts(this.machine, this.domain);
    const result = fifo.initControl(vcpu, gfn, offset);
    if (result < 0) return result;
    for (let port = 1; port < this.#ports.length; port++) if (this.#abi.isPending(port)) fifo.savePending(port);
    this.#fifo = fifo;
    this.#abi = fifo;
    return 0;
  }

  /** EVTCHNOP_expand_array: a frame with the words of the next 1024 ports. */
  expandArray(gfn: number): number {
    if (this.#fifo === null) return -ERRNO.EOPNOTSUPP;
    return this.#fifo.expandArray(gfn, (port) => this.domain.vcpus[this.#ports[port]?.vcpu ?? 0] ?? null);
  }

  /** EVTCHNOP_reset: closes every port; the domain has the 2-level ABI again. */
  reset(): number {
    for (let port = 1; port < this.#ports.length; port++) this.close(port);
    if (this.#fifo === null) return 0;
    this.#fifo.release();
    this.#fifo = null;
    this.#abi = new TwoLevelPorts(this.machine, this.domain);
    // Bits from before the switch would keep the ports' first events back.
    for (let port = 1; port < this.#abi.limit; port++) this.#abi.clearPending(port);
    this.#ports.length = Math.min(this.#ports.length, this.#abi.limit);
    this.#valid = Math.min(this.#valid, this.#abi.limit);
    this.#lowestFree = 1;
    return 0;
  }

  /** Is an event of this port waiting? For SCHEDOP_poll; the port must be valid. */
  isPending(port: number): boolean {
    return this.isValid(port) && this.#abi.isPending(port);
  }

  /** Raises a virtual interrupt of one vCPU; nothing if it is not bound. */
  sendVirq(vcpu: Vcpu, virq: number): void {
    const port = vcpu.virqToPort[virq] ?? 0;
    if (port !== 0) this.#raise(port, this.#ports[port]!);
  }

  /** Raises a global virtual interrupt (bound at vCPU 0). */
  sendGlobalVirq(virq: number): void {
    const vcpu = this.domain.vcpus[0];
    if (vcpu !== undefined) this.sendVirq(vcpu, virq);
  }

  /** Domain 0 binds a port that `remote` allocated for it; `handler` is queued by machine.post, once for each time it becomes pending. Throws EventError. */
  bindBackend(remote: Domain, remotePort: number, handler: () => void): BackendPort {
    if (this.#host === null) throw new Error(`${this.domain} is no host of backends`);
    const port = remote.dying ? -ERRNO.EINVAL : this.#bind(remote, remotePort, handler);
    if (port < 0) throw new EventError(port, `Binding port ${remotePort} of ${remote}`);
    const mine = this.#ports[port]!;
    const { remote: bound } = mine;
    let open = true;
    return {
      port,
      notify: () => {
        if (open && mine.remote === bound) this.send(port);
      },
      close: () => {
        if (open) this.close(port);
        open = false;
      },
    };
  }

  /** The domain dies: closes everything. The ports of others that were bound to it become unbound. */
  destroy(): void {
    this.reset();
  }

  /** Ports in use, for dumps and tests. */
  get used(): number {
    return this.#ports.reduce((sum, port) => sum + (port.state === EVTCHNSTAT.closed ? 0 : 1), 0);
  }
}

function closedPort(): Port {
  return { state: EVTCHNSTAT.closed, vcpu: 0, remoteId: 0, remote: null, remotePort: 0, virq: 0 };
}

function connect(port: Port, remote: EventChannels, remotePort: number): void {
  port.state = EVTCHNSTAT.interdomain;
  port.remote = remote;
  port.remoteId = remote.domain.id;
  port.remotePort = remotePort;
}
