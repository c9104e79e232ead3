/** What the parts of the PV port share: one per machine. */
import type { ArchHost, Domain, Vcpu } from "hookvisor";
import type { PageTables } from "./mm/page-tables.ts";
import type { GuestMemory } from "./mm/walk.ts";
import type { Traps } from "./traps/exceptions.ts";
import type { PvVcpu } from "./vcpu-state.ts";

export interface PvContext {
  readonly host: ArchHost;
  readonly tables: PageTables;
  readonly memory: GuestMemory;
  readonly traps: Traps;
  /** The port's state of a vCPU. */
  stateOf(vcpu: Vcpu): PvVcpu;
  statesOf(domain: Domain): readonly PvVcpu[];
  /** VMASST_TYPE_m2p_strict: the m2p is hidden from the guest's user mode. Always off: vm_assist does not offer it. */
  strict(v: PvVcpu): boolean;
}
