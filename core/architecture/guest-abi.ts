/**
 * What core must know of a guest's data representation; it never assumes 4 KiB pages, 64 bits or little-endian.
 */
export interface GuestAbi {
  /** Unique name, such as `x86-pv-64`; hypercall tables are made per name. */
  readonly name: string;
  /** log2 of a guest page, at least 12; mfns and grants stay 4 KiB. */
  readonly pageShift: number;
  readonly wordBytes: 4 | 8;
  readonly endian: "little" | "big";
  /** Alignment of 64-bit members: 4 on i386, 8 elsewhere. */
  readonly align64: 4 | 8;
  /** Vcpu_info structures in the shared info page (XEN_LEGACY_MAX_VCPUS). */
  readonly legacyVcpus: number;
  /** Its arch_vcpu_info and arch_shared_info are empty, as Arm's and RISC-V's are; default: they are x86's. */
  readonly bareInfo?: true;
}
