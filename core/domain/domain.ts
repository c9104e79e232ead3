/**
 * A domain: its identity, what it owns, how it ends.
 *
 * Invariants: a domain id is never reused in a run; a domain is `dying` from the moment of its destruction until its last
 * frame's last reference goes, and nobody may map, copy or bind with it any more; shutdownReason is set once.
 */
import type { ArchBackend } from "../architecture/arch-backend.ts";
import type { GuestAbi } from "../architecture/guest-abi.ts";
import type { EventChannels } from "../event/event-channels.ts";
import type { GrantTable } from "../grant/grant-table.ts";
import type { Mfn } from "../machine/frames.ts";
import type { SharedInfo } from "./shared-info.ts";
import type { Vcpu } from "./vcpu.ts";

/** Why a domain shut down, with Xen's numbers (public/sched.h, SHUTDOWN_*). */
export const ShutdownReason = Object.freeze({
  poweroff: 0,
  reboot: 1,
  suspend: 2,
  crash: 3,
  watchdog: 4,
  softReset: 5,
});
export type ShutdownReason = (typeof ShutdownReason)[keyof typeof ShutdownReason];

/** What a toolstack does on a shutdown reason (xl.cfg: on_poweroff, on_reboot, on_crash). */
export type ShutdownAction = "destroy" | "restart" | "preserve" | "rename-restart";

/** What identifies a domain and does not change. */
export interface DomainIdentity {
  readonly id: number;
  readonly uuid: string;
  /** The key under which its arch backend was found: pv, pvh, hvm, riscv64, workload, ... */
  readonly type: string;
}

export class Domain {
  readonly id: number;
  readonly uuid: string;
  readonly type: string;
  name: string;
  /** The plugin object that runs it; null for domain 0, which is the host process. */
  readonly arch: ArchBackend | null;
  /** Structure layouts of its hypercalls; fixed once the image is known. */
  abi: GuestAbi;
  readonly vcpus: Vcpu[] = [];
  pauseCount = 0;
  dying = false;
  shutdownReason: ShutdownReason | null = null;
  /** Why it crashed, in a sentence; empty: it did not. */
  crashMessage = "";
  /** Most frames it may own (XENMEM_maximum_reservation). */
  maxFrames = 0;
  /** Frame of the shared info page (owned by the domain, held as writable until its destruction), or -1. */
  sharedInfo: Mfn = -1;
  /** The shared info page; null for domain 0, before it is made and after it is released. */
  shared: SharedInfo | null = null;
  /** Set right after construction by the hypervisor. */
  events!: EventChannels;
  grants!: GrantTable;
  /** VMASST_TYPE_* bits. */
  vmAssist = 0;
  /** XenStore and console: frames (as gfnToMfn takes them: mfns of a PV guest) and ports that the builder made, -1: none. */
  readonly store = { mfn: -1, port: 0 };
  readonly console = { mfn: -1, port: 0 };
  /** Bytes the guest wrote by CONSOLEIO_write, as printed by the toolstack. */
  onConsoleWrite: ((bytes: Uint8Array) => void) | null = null;
  /** Answers CONSOLEIO_read with at most `max` bytes; null: there is never any input. */
  onConsoleRead: ((max: number) => Uint8Array) | null = null;
  /** SCHEDOP_shutdown_code: the reason that a later shutdown will have, whatever it says; null: none was set. */
  shutdownCode: ShutdownReason | null = null;
  /** Added to the machine's wall clock for this domain, nanoseconds (rtc_timeoffset). */
  wallclockOffset = 0;
  /** Highest time that any vCPU of it has read: later readings never fall below. */
  timeFloor = 0;

  constructor(identity: DomainIdentity, name: string, arch: ArchBackend | null, abi: GuestAbi) {
    this.id = identity.id;
    this.uuid = identity.uuid;
    this.type = identity.type;
    this.name = name;
    this.arch = arch;
    this.abi = abi;
  }

  toString(): string {
    return `${this.name} (domain ${this.id})`;
  }
}
