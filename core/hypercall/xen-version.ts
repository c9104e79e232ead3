/** Xen_version (17): what the hypervisor says of itself (Xen: common/kernel.c). What the arch decides comes from ArchBackend. */
import {
  __HYPERVISOR,
  ERRNO,
  XEN_CAPABILITIES_INFO_LEN,
  XEN_CHANGESET_INFO_LEN,
  XEN_DOMAIN_HANDLE_LEN,
  XEN_EXTRAVERSION_LEN,
  XENFEAT_NR_SUBMAPS,
  XENVER,
  xen_compile_info,
  xen_feature_info,
  xen_platform_parameters,
} from "../abi/index.ts";
import type { Machine } from "../machine/machine.ts";
import type { HypercallCall, HypercallTable } from "./table.ts";

/** What an unprivileged domain is told of the hypervisor's command line (Xen: xen_deny). */
const DENIED = "<denied>";

/** Text with at least one NUL after it, in a buffer of `size` bytes. */
function text(value: string, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(new TextEncoder().encode(value).subarray(0, size - 1));
  return bytes;
}

function put(call: HypercallCall, bytes: Uint8Array | DataView): number {
  return call.writeArg(1, bytes, bytes.byteLength) ? 0 : -ERRNO.EFAULT;
}

/** The 16 bytes of a UUID in text. */
function handleOf(uuid: string): Uint8Array {
  const digits = uuid.replaceAll("-", "").padEnd(2 * XEN_DOMAIN_HANDLE_LEN, "0");
  return Uint8Array.from({ length: XEN_DOMAIN_HANDLE_LEN }, (_, i) =>
    Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16),
  );
}

export function addXenVersion(table: HypercallTable, machine: Machine): void {
  const { abi } = table;
  const { major, minor, extra } = machine.xenVersion;
  const group = table.addGroup(__HYPERVISOR.xen_version, "xen_version", (call) => call.lo(0), 100);
  group.add(XENVER.version, "version", () => major * 0x10000 + minor);
  group.add(XENVER.extraversion, "extraversion", (call) => put(call, text(extra, XEN_EXTRAVERSION_LEN)));
  group.add(XENVER.compile_info, "compile_info", (call) => {
    const layout = xen_compile_info.at(abi);
    const view = new DataView(new ArrayBuffer(layout.size));
    layout.setString(view, 0, "compiler", "TypeScript");
    layout.setString(view, 0, "compile_by", "hookvisor");
    return put(call, view);
  });
  group.add(XENVER.capabilities, "capabilities", (call) =>
    put(call, text(call.domain.arch?.capabilities ?? "", XEN_CAPABILITIES_INFO_LEN)),
  );
  group.add(XENVER.changeset, "changeset", (call) => put(call, text("unavailable", XEN_CHANGESET_INFO_LEN)));
  group.add(XENVER.platform_parameters, "platform_parameters", (call) => {
    const layout = xen_platform_parameters.at(abi);
    const view = new DataView(new ArrayBuffer(layout.size));
    const start = call.domain.arch?.virtStart?.(call.domain) ?? { lo: 0, hi: 0 };
    layout.setLoHi(view, 0, "virt_start", start.lo, start.hi);
    return put(call, view);
  });
  group.add(XENVER.get_features, "get_features", (call) => {
    const layout = xen_feature_info.at(abi);
    const view = call.readArg(1, layout.size);
    if (view === null) return -ERRNO.EFAULT;
    const submap = layout.get(view, 0, "submap_idx");
    if (submap >= XENFEAT_NR_SUBMAPS) return -ERRNO.EINVAL;
    layout.set(view, 0, "submap", call.domain.arch?.features?.(call.domain, submap) ?? 0);
    return put(call, view);
  });
  group.add(XENVER.pagesize, "pagesize", (call) =>
    call.lo(1) === 0 && call.hi(1) === 0 ? 2 ** abi.pageShift : -ERRNO.EINVAL,
  );
  group.add(XENVER.guest_handle, "guest_handle", (call) => put(call, handleOf(call.domain.uuid)));
  group.add(XENVER.commandline, "commandline", (call) => put(call, text(DENIED, DENIED.length + 1)));
  group.add(XENVER.build_id, "build_id", () => -ERRNO.EPERM);
}
