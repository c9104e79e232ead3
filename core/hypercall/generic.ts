/** The machine-independent hypercalls, as a list. */
import { VcpuTimers } from "../domain/time.ts";
import type { Machine } from "../machine/machine.ts";
import type { CurrentCall } from "./call.ts";
import { addConsoleIo } from "./console-io.ts";
import { addEventChannelOp } from "./event-channel-op.ts";
import { addGrantTableOp } from "./grant-table-op.ts";
import { addMemoryOp } from "./memory-op.ts";
import { addMulticall } from "./multicall.ts";
import { addSchedOp } from "./sched-op.ts";
import type { HypercallTable } from "./table.ts";
import { addUnsupported } from "./unsupported.ts";
import { addVcpuOp } from "./vcpu-op.ts";
import { addVmAssist } from "./vm-assist.ts";
import { addXenVersion } from "./xen-version.ts";

/** Fills a table with everything that core answers itself. */
export function addGenericCalls(table: HypercallTable, machine: Machine, call: CurrentCall): void {
  const timers = new VcpuTimers(machine);
  addMulticall(table, machine, call);
  addEventChannelOp(table, machine);
  addSchedOp(table, machine, timers);
  addVcpuOp(table, machine, timers);
  addGrantTableOp(table, machine);
  addMemoryOp(table, machine);
  addXenVersion(table, machine);
  addConsoleIo(table, machine);
  addVmAssist(table);
  addUnsupported(table);
}
