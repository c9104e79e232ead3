/** Event_channel_op (32) and its predecessor event_channel_op_compat (16): arguments from and to guest memory (Xen: common/event_channel.c). */
import {
  __HYPERVISOR,
  type Abi,
  ERRNO,
  EVTCHN_FIFO,
  EVTCHNOP,
  EVTCHNSTAT,
  evtchn_alloc_unbound,
  evtchn_bind_interdomain,
  evtchn_bind_ipi,
  evtchn_bind_vcpu,
  evtchn_bind_virq,
  evtchn_close,
  evtchn_expand_array,
  evtchn_init_control,
  evtchn_op,
  evtchn_reset,
  evtchn_send,
  evtchn_set_priority,
  evtchn_status,
  evtchn_unmask,
} from "../abi/index.ts";
import { checkAccess, lookUpDomain } from "../domain/access.ts";
import type { Machine } from "../machine/machine.ts";
import type { HypercallCall, HypercallHandler, HypercallTable } from "./table.ts";

/** One operation: `run` reads and writes the structure in `view`; with `out` it is copied back when the result is 0. */
interface EventOperation {
  readonly size: number;
  readonly out: boolean;
  run(call: HypercallCall, view: DataView): number;
}

/** A port or a negative errno becomes a port in the structure, or the result. */
function portResult(port: number, set: (port: number) => void): number {
  if (port < 0) return port;
  set(port);
  return 0;
}

function operations(machine: Machine, abi: Abi): ReadonlyMap<number, EventOperation> {
  const alloc = evtchn_alloc_unbound.at(abi);
  const interdomain = evtchn_bind_interdomain.at(abi);
  const virq = evtchn_bind_virq.at(abi);
  const ipi = evtchn_bind_ipi.at(abi);
  const close = evtchn_close.at(abi);
  const send = evtchn_send.at(abi);
  const status = evtchn_status.at(abi);
  const vcpu = evtchn_bind_vcpu.at(abi);
  const unmask = evtchn_unmask.at(abi);
  const reset = evtchn_reset.at(abi);
  const control = evtchn_init_control.at(abi);
  const expand = evtchn_expand_array.at(abi);
  const priority = evtchn_set_priority.at(abi);
  return new Map<number, EventOperation>([
    [
      EVTCHNOP.alloc_unbound,
      {
        size: alloc.size,
        out: true,
        run: (call, view) => {
          const target = lookUpDomain(machine, call.domain, alloc.get(view, 0, "dom"));
          if (target === undefined) return -ERRNO.ESRCH;
          const refused = checkAccess(machine, call.domain, "evtchn_unbound", target, "target");
          if (refused < 0) return refused;
          const remote = alloc.get(view, 0, "remote_dom");
          const remoteId = lookUpDomain(machine, call.domain, remote)?.id ?? remote;
          return portResult(target.events.allocUnbound(remoteId), (port) => alloc.set(view, 0, "port", port));
        },
      },
    ],
    [
      EVTCHNOP.bind_interdomain,
      {
        size: interdomain.size,
        out: true,
        run: (call, view) => {
          const remote = interdomain.get(view, 0, "remote_dom");
          const port = call.domain.events.bindInterdomain(remote, interdomain.get(view, 0, "remote_port"));
          return portResult(port, (local) => interdomain.set(view, 0, "local_port", local));
        },
      },
    ],
    [
      EVTCHNOP.bind_virq,
      {
        size: virq.size,
        out: true,
        run: (call, view) => {
          const port = call.domain.events.bindVirq(virq.get(view, 0, "virq"), virq.get(view, 0, "vcpu"));
          return portResult(port, (bound) => virq.set(view, 0, "port", bound));
        },
      },
    ],
    [
      EVTCHNOP.bind_ipi,
      {
        size: ipi.size,
        out: true,
        run: (call, view) =>
          portResult(call.domain.events.bindIpi(ipi.get(view, 0, "vcpu")), (port) => ipi.set(view, 0, "port", port)),
      },
    ],
    [
      EVTCHNOP.close,
      { size: close.size, out: false, run: (call, view) => call.domain.events.close(close.get(view, 0, "port")) },
    ],
    [
      EVTCHNOP.send,
      { size: send.size, out: false, run: (call, view) => call.domain.events.send(send.get(view, 0, "port")) },
    ],
    [
      EVTCHNOP.status,
      {
        size: status.size,
        out: true,
        run: (call, view) => {
          const target = lookUpDomain(machine, call.domain, status.get(view, 0, "dom"));
          if (target === undefined) return -ERRNO.ESRCH;
          const port = target.events.status(status.get(view, 0, "port"));
          if (typeof port === "number") return port;
          const refused = checkAccess(machine, call.domain, "evtchn_status", target, "target");
          if (refused < 0) return refused;
          status.set(view, 0, "status", port.state);
          status.set(view, 0, "vcpu", port.vcpu);
          if (port.state === EVTCHNSTAT.unbound) status.set(view, 0, "u.unbound.dom", port.remoteId);
          else if (port.state === EVTCHNSTAT.virq) status.set(view, 0, "u.virq", port.virq);
          else if (port.state === EVTCHNSTAT.interdomain) {
            status.set(view, 0, "u.interdomain.dom", port.remoteId);
            status.set(view, 0, "u.interdomain.port", port.remotePort);
          }
          return 0;
        },
      },
    ],
    [
      EVTCHNOP.bind_vcpu,
      {
        size: vcpu.size,
        out: false,
        run: (call, view) => call.domain.events.bindVcpu(vcpu.get(view, 0, "port"), vcpu.get(view, 0, "vcpu")),
      },
    ],
    [
      EVTCHNOP.unmask,
      { size: unmask.size, out: false, run: (call, view) => call.domain.events.unmask(unmask.get(view, 0, "port")) },
    ],
    [
      EVTCHNOP.reset,
      {
        size: reset.size,
        out: false,
        run: (call, view) => {
          const target = lookUpDomain(machine, call.domain, reset.get(view, 0, "dom"));
          if (target === undefined) return -ERRNO.ESRCH;
          const refused = checkAccess(machine, call.domain, "evtchn_reset", target, "target");
          return refused < 0 ? refused : target.events.reset();
        },
      },
    ],
    [
      EVTCHNOP.init_control,
      {
        size: control.size,
        out: true,
        run: (call, view) => {
          const gfn = control.getNumber(view, 0, "control_gfn");
          control.set(view, 0, "link_bits", EVTCHN_FIFO.LINK_BITS);
          return call.domain.events.initControl(control.get(view, 0, "vcpu"), gfn, control.get(view, 0, "offset"));
        },
      },
    ],
    [
      EVTCHNOP.expand_array,
      {
        size: expand.size,
        out: false,
        run: (call, view) => call.domain.events.expandArray(expand.getNumber(view, 0, "array_gfn")),
      },
    ],
    [
      EVTCHNOP.set_priority,
      {
        size: priority.size,
        out: false,
        run: (call, view) =>
          call.domain.events.setPriority(priority.get(view, 0, "port"), priority.get(view, 0, "priority")),
      },
    ],
  ]);
}

/** Runs an operation on the structure `offset` bytes behind the pointer in argument `index`. */
function perform(call: HypercallCall, operation: EventOperation, index: number, offset: number): number {
  const view = call.readArg(index, operation.size, offset);
  if (view === null) return -ERRNO.EFAULT;
  const result = operation.run(call, view);
  if (result === 0 && operation.out && !call.writeArg(index, view, operation.size, offset)) return -ERRNO.EFAULT;
  return result;
}

export function addEventChannelOp(table: HypercallTable, machine: Machine): void {
  const { abi } = table;
  const known = operations(machine, abi);
  const unsupported: HypercallHandler = () => -ERRNO.ENOSYS;
  const group = table.addGroup(__HYPERVISOR.event_channel_op, "event_channel_op", (call) => call.lo(0), 400);
  for (const [name, command] of Object.entries(EVTCHNOP)) {
    const operation = known.get(command);
    group.add(command, name, operation === undefined ? unsupported : (call) => perform(call, operation, 1, 0));
  }
  const { cmd, u } = evtchn_op.at(abi).fields;
  const compat = (call: HypercallCall): number => {
    const view = call.readArg(0, cmd.size);
    if (view === null) return -ERRNO.EFAULT;
    const command = cmd.get(view, 0);
    const operation = command <= EVTCHNOP.unmask ? known.get(command) : undefined;
    return operation === undefined ? -ERRNO.ENOSYS : perform(call, operation, 0, u.offset);
  };
  table.add(__HYPERVISOR.event_channel_op_compat, "event_channel_op_compat", compat, 400);
}
