/**
 * The architecture contract: what a port provides (ArchBackend) and what the core gives it (ArchHost).
 *
 * A port loads an image, creates vCPUs, runs one for a number of instructions and says why it stopped, gives core the
 * arguments of hypercalls, copies to and from guest memory, maps grants. Choices made on purpose:
 *  - run() is given a budget of instructions and returns how many retired: the core alone turns instructions into
 *    time, so a port cannot get the clock wrong;
 *  - one Exit object a vCPU is reused: no garbage between a guest exit and the next entry;
 *  - a 64-bit register or address crosses as two unsigned 32-bit halves (lo, hi);
 *  - upcalls are the port's: at every entry run() looks whether an event is to be delivered and delivers it; core only sets bits.
 */
import type { DeviceDescription, DeviceRegion } from "../device/device-type.ts";
import type { Domain, ShutdownReason } from "../domain/domain.ts";
import type { Vcpu } from "../domain/vcpu.ts";
import type { Hooks } from "../hooks.ts";
import type { Frames, Gfn, Mfn } from "../machine/frames.ts";
import type { Nanoseconds, Timer } from "../machine/timers.ts";
import type { GuestAbi } from "./guest-abi.ts";

/** Why run() returned. */
export const ExitCode = Object.freeze({
  /** The budget is used up, or the run was ended by requestExit. */
  budget: 0,
  /** A hypercall: Exit.nr; arguments by loadArguments; answer by finishHypercall. */
  hypercall: 1,
  /** An access to a port or an MMIO address: answer by finishIo. */
  io: 2,
  /** The vCPU waits for an event (hlt, wfi). */
  halt: 3,
  /** The vCPU gives way (pause in a spin loop). */
  yield: 4,
  /** The domain can't go on: Exit.reason says why. */
  crash: 5,
  /** A breakpoint of the debugger. */
  debug: 6,
});
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** One per vCPU, filled by run(). */
export interface Exit {
  code: ExitCode;
  nr: number;
  space: "pio" | "mmio";
  addressLo: number;
  addressHi: number;
  size: 1 | 2 | 4 | 8;
  write: boolean;
  valueLo: number;
  valueHi: number;
  reason: string;
}

/** Makes an Exit. */
export function createExit(): Exit {
  return {
    code: 0,
    nr: 0,
    space: "pio",
    addressLo: 0,
    addressHi: 0,
    size: 1,
    write: false,
    valueLo: 0,
    valueHi: 0,
    reason: "",
  };
}

/** What a domain is built from. */
export interface DomainImage {
  readonly kernel: Uint8Array;
  /** Where the kernel came from, for messages. */
  readonly kernelName: string;
  readonly ramdisk: Uint8Array | null;
  readonly commandLine: string;
  /** Frames the domain may have: its memory. */
  readonly memoryFrames: number;
  readonly vcpus: number;
  /** Ports that core has allocated for the XenStore and console rings, unbound to domain 0. */
  readonly storePort: number;
  readonly consolePort: number;
}

/** What the builder says afterwards. */
export interface BuildResult {
  /**
   * Frames of the XenStore and console rings, by the number that the domain's interfaces use (as gfnToMfn takes it): an mfn for a PV
   * guest, a gfn for a translated one; -1: the guest has none.
   */
  readonly storeMfn: Mfn;
  readonly consoleMfn: Mfn;
}

/** An emulated device of a domain, with what it says of itself. */
export interface PlacedDevice {
  readonly type: string;
  readonly id: number;
  readonly regions: readonly DeviceRegion[];
  readonly description: DeviceDescription | null;
}

/** What core gives to an arch backend; one per machine. */
export interface ArchHost {
  readonly frames: Frames;
  readonly hooks: Hooks;
  /** Bytes reported by XENVER_*: major 4, minor 17. */
  readonly xenVersion: { readonly major: number; readonly minor: number; readonly extra: string };
  /** Current machine time: the running pCPU's clock, or the timer's that fires. */
  now(): Nanoseconds;
  /** Time of a vCPU after `retired` instructions of the present run(), never below what its domain has read; recorded as read. */
  timeOf(vcpu: Vcpu, retired: number): Nanoseconds;
  /** Nanoseconds since 1970 at virtual time 0. */
  readonly wallclockAtZero: Nanoseconds;
  /** The machine's seed: every random source of a guest derives from it. */
  readonly seed: number;
  timer(at: Nanoseconds, fire: (now: Nanoseconds) => void): Timer;
  /** Adds instructions to what the present exit costs (batches, walks). */
  charge(instructions: number): void;
  /** A vCPU that waits (ExitCode.halt) can go on, though no event is pending. */
  wake(vcpu: Vcpu): void;
  /** The horizon of a running vCPU has changed: core brings it up to now and asks again. */
  reconsider(vcpu: Vcpu): void;
  /** Takes a vCPU out of `down` (started by the guest), or puts it there. */
  vcpuUp(vcpu: Vcpu): void;
  vcpuDown(vcpu: Vcpu): void;
  /** Ends the domain with a reason; the vCPUs stop at once. */
  shutdown(domain: Domain, reason: ShutdownReason): void;
  /** shutdown(crash) with a message for the log: what the guest did, and where. */
  crash(domain: Domain, message: string): void;
  domain(id: number): Domain | undefined;
  /** The hypervisor's log (dmesg). */
  log(message: string): void;
}

/** A port. */
export interface ArchBackend {
  /** Looks at an image without building: the guest's ABI. Throws ImageError with what is wrong, where, and what would be right. */
  identify(image: Uint8Array, name: string): GuestAbi;
  /** Allocates and builds the domain's first address space and vCPU 0's registers. shared info exists already. Throws ImageError. */
  buildDomain(domain: Domain, image: DomainImage): BuildResult;
  /** Releases the arch's references (page tables, pins, descriptors, registered frames): all that holds frames. Called once, vCPUs off. */
  destroyDomain(domain: Domain): void;
  /** Makes the arch's state of a vCPU; its registers are those of an offline vCPU until buildDomain or initialiseVcpu. */
  createVcpu(vcpu: Vcpu): void;
  /** VCPUOP_initialise with the guest context at a guest address of `caller`: 0 or a negative errno. */
  initialiseVcpu(vcpu: Vcpu, caller: Vcpu, lo: number, hi: number): number;
  /** Runs for at most `budget` instructions; delivers pending events first. Returns the instructions retired (0..budget). */
  run(vcpu: Vcpu, budget: number, exit: Exit): number;
  /**
   * Instructions after which run() stops by itself, at least 1; Infinity: never. Only a port has it whose vCPUs do nothing on the way there that
   * anybody can see before: core then runs a vCPU no earlier than something happens to it (its slice ends, it is preempted), in one
   * piece, instead of in quanta. What changes the answer meanwhile (an event for a vCPU that runs) calls ArchHost.reconsider. Default: quanta.
   */
  horizon?(vcpu: Vcpu): number;
  /** Ends the run that is under way as soon as possible, at a deterministic instruction (used from within helpers). */
  requestExit(vcpu: Vcpu): void;
  /** The hypercall's arguments: six pairs lo, hi. Upper halves are 0 for a 32-bit guest. */
  loadArguments(vcpu: Vcpu, into: Uint32Array): void;
  /** Answers a hypercall; `result` is sign-extended to the guest's word. */
  finishHypercall(vcpu: Vcpu, result: number): void;
  /** A preempted hypercall: at the next entry the guest makes call `nr` with these arguments again. */
  continueHypercall(vcpu: Vcpu, nr: number, args: Uint32Array): void;
  finishIo(vcpu: Vcpu, lo: number, hi: number): void;
  /** Would an event be delivered at the next entry (pending and not masked)? Asked by halt and block. */
  eventsDeliverable(vcpu: Vcpu): boolean;
  /** Copies `length` bytes from a guest virtual address as the guest kernel would read them; false: -EFAULT. */
  copyFromGuest(vcpu: Vcpu, lo: number, hi: number, into: Uint8Array, length: number): boolean;
  /** The same for writing; translations are invalidated. False: nothing past the bad address was written. */
  copyToGuest(vcpu: Vcpu, lo: number, hi: number, from: Uint8Array, length: number): boolean;
  /** The machine frame behind a guest frame; -1: none. For a PV guest a gfn in an interface is an mfn that it must own. */
  gfnToMfn(domain: Domain, gfn: Gfn): Mfn;
  /**
   * Installs a grant mapping (GNTMAP_host_map): references and types are taken by the caller. `flags` are GNTMAP_*. For a PV guest the
   * address is a virtual address or, with GNTMAP_contains_pte, the machine address of a PTE. Returns GNTST_*.
   */
  mapGrant(vcpu: Vcpu, lo: number, hi: number, mfn: Mfn, flags: number): number;
  /** Removes one; with a new address (unmap_and_replace) its PTE moves here, else both halves are 0. Returns GNTST_*. */
  unmapGrant(vcpu: Vcpu, lo: number, hi: number, mfn: Mfn, flags: number, newLo: number, newHi: number): number;
  /** XENMEM_add_to_physmap and remove: 0 or a negative errno; -ENOSYS where guests own their page tables. mfn -1 removes. */
  setPhysmap(domain: Domain, gfn: Gfn, mfn: Mfn): number;
  /** XENMEM_maximum_gpfn: the highest gfn that is mapped; default: one below what the guest wrote to arch.max_pfn. */
  maximumGfn?(domain: Domain): number;
  /** A frame leaves the domain (decrease_reservation, transfer): is nothing of the arch in the way? Takes it out of the p2m. */
  releaseFrame(domain: Domain, gfn: Gfn, mfn: Mfn): boolean;
  /** A fresh frame becomes `gfn` of the domain (populate, increase, exchange, a transferred grant). */
  acquireFrame(domain: Domain, gfn: Gfn, mfn: Mfn): void;
  /**
   * An interrupt pin of a vCPU is raised or lowered (an emulated interrupt controller's output); the numbers are the arch's own. False: it has no
   * such pin. Default: it has none.
   */
  setPin?(vcpu: Vcpu, pin: number, level: boolean): boolean;
  /** Emulated devices that every domain of the type has, as DomainConfig.devices has them; those of the config come after. Default: none. */
  machineDevices?(vcpus: number): readonly { readonly type: string; readonly spec: string }[];
  /**
   * Device types that stand in for others in domains of the type, whose guests have no driver for those: { vbd: "virtio-blk" }. The spec stays
   * the same. Default: none.
   */
  readonly substitutes?: Readonly<Record<string, string>>;
  /** All devices are there and the domain is about to run: tells the guest of them (a device tree, tables). Throws ImageError. Default: nothing. */
  devicesReady?(domain: Domain, devices: readonly PlacedDevice[]): void;
  /** Registers and disassembly around the program counter, for dumps. */
  describe(vcpu: Vcpu): string;
  /** Period of the VIRQ_TIMER that every vCPU starts with (PV: 10 ms); default: none. */
  readonly tick?: Nanoseconds;
  /** Words of XENVER_get_features for this domain (bits: XENFEAT); default: 0. */
  features?(domain: Domain, submap: number): number;
  /** XENVER_capabilities, such as "xen-3.0-x86_64"; default: empty. */
  readonly capabilities?: string;
  /** XENVER_platform_parameters: where the hypervisor's addresses begin in the guest's address space; default: 0. */
  virtStart?(domain: Domain): { readonly lo: number; readonly hi: number };
  /** VMASST_TYPE_* below 31 that vm_assist accepts; default: runstate_update_flag. */
  readonly vmAssists?: readonly number[];
}
