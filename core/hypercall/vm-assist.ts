/** Vm_assist (21): switches of the domain's interface, as far as its arch has them (Xen: common/kernel.c, do_vm_assist). */
import { __HYPERVISOR, ERRNO, VMASST_CMD, VMASST_TYPE } from "../abi/index.ts";
import type { HypercallCall, HypercallTable } from "./table.ts";

const DEFAULT: readonly number[] = [VMASST_TYPE.runstate_update_flag];

export function addVmAssist(table: HypercallTable): void {
  const assist = (call: HypercallCall): number => {
    const { domain } = call;
    const type = call.lo(1);
    if (type > 30 || !(domain.arch?.vmAssists ?? DEFAULT).includes(type)) return -ERRNO.EINVAL;
    switch (call.lo(0)) {
      case VMASST_CMD.enable:
        domain.vmAssist |= 1 << type;
        return 0;
      case VMASST_CMD.disable:
        domain.vmAssist &= ~(1 << type);
        return 0;
      default:
        return -ERRNO.ENOSYS;
    }
  };
  table.add(__HYPERVISOR.vm_assist, "vm_assist", assist);
}
