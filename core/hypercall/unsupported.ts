/**
 * The hypercalls that answer one errno, whatever is asked: what UNSUPPORTED.md lists. An errno here is what Xen answers an
 * unprivileged domain (EPERM), or a Xen built without the feature (ENOSYS, EOPNOTSUPP).
 */
import { __HYPERVISOR, ERRNO } from "../abi/index.ts";
import type { HypercallTable } from "./table.ts";

/** Hypercall -> errno. */
export const UNSUPPORTED_HYPERCALLS = Object.freeze({
  platform_op: ERRNO.EPERM,
  sysctl: ERRNO.EPERM,
  domctl: ERRNO.EPERM,
  kexec_op: ERRNO.EPERM,
  dm_op: ERRNO.EPERM,
  hypfs_op: ERRNO.EPERM,
  xsm_op: ERRNO.ENOSYS,
  nmi_op: ERRNO.ENOSYS,
  xenoprof_op: ERRNO.ENOSYS,
  tmem_op: ERRNO.ENOSYS,
  argo_op: ERRNO.ENOSYS,
  xenpmu_op: ERRNO.EOPNOTSUPP,
});

export function addUnsupported(table: HypercallTable): void {
  for (const [name, errno] of Object.entries(UNSUPPORTED_HYPERCALLS) as [keyof typeof __HYPERVISOR, number][])
    table.add(__HYPERVISOR[name], name, () => -errno, 100);
}
