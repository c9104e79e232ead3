/**
 * The `__xen_guest` section that kernels of 2007 carry instead of notes: `KEY=VALUE,KEY=VALUE`, ended by NUL.
 *
 * Facts: libelf and the interface documents of Xen 3. HYPERCALL_PAGE is a page number counted from VIRT_BASE.
 */
import { noParameters, type RawParameters } from "./notes.ts";

function number(value: string): bigint | null {
  return /^(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})$/.test(value) ? BigInt.asUintN(64, BigInt(value)) : null;
}

/** Reads the section's text; what it does not know, it ignores. */
export function parseGuestSection(section: string): RawParameters {
  const out = noParameters("legacy");
  let page: bigint | null = null;
  for (const item of section.split(",")) {
    const equals = item.indexOf("=");
    const key = equals < 0 ? item : item.slice(0, equals);
    const value = equals < 0 ? "" : item.slice(equals + 1);
    switch (key.trim()) {
      case "GUEST_OS":
        out.guestOs = value;
        break;
      case "XEN_VER":
        out.xenVersion = value;
        break;
      case "LOADER":
        out.loader = value;
        break;
      case "PAE":
        out.paeMode = value;
        break;
      case "FEATURES":
        out.features = value;
        break;
      case "VIRT_BASE":
        out.virtualBase = number(value);
        break;
      case "VIRT_ENTRY":
        out.entry = number(value);
        break;
      case "ELF_PADDR_OFFSET":
        out.physicalOffset = number(value);
        break;
      case "HYPERCALL_PAGE":
        page = number(value);
        break;
      default:
    }
  }
  if (page !== null) out.hypercallPage = BigInt.asUintN(64, page * 4096n + (out.virtualBase ?? 0n));
  return out;
}
