/**
 * The device contract: what a device plugin provides for its key, and what it is handed.
 *
 * A split (paravirtual) backend sees its XenStore area, maps grants and binds event channels; the core drives the xenbus
 * handshake. An emulated device declares regions and sees offsets, never its address. Files, terminals and networks come from
 * HostServices, never from Node. Everything a frontend hands over is hostile.
 * Invariants: callbacks of a device are queued by core and run before the next guest entry, never inside the guest's
 * send; the device's plugin is ejected (its device closed) when a callback throws.
 */
import type { PlacedDevice } from "../architecture/arch-backend.ts";
import type { Domain } from "../domain/domain.ts";
import type { Gfn } from "../machine/frames.ts";
import type { Nanoseconds, Timer } from "../machine/timers.ts";

/** One directory of XenStore, as the backend (domain 0) sees it. Keys are relative to it. */
export interface XenStoreArea {
  readonly path: string;
  read(key: string): string | undefined;
  write(key: string, value: string): void;
  remove(key: string): void;
  list(key: string): readonly string[];
  /** Calls `changed` once at once and after every change at or below `key`. Returns what ends the watch. */
  watch(key: string, changed: () => void): () => void;
}

/** Frames of a guest that a backend has mapped. */
export interface MappedPages {
  /** 4 KiB each; live views of guest memory: read each value once, it may change under your hands. */
  readonly pages: readonly Uint8Array[];
  /** Mandatory after writing bytes [from, to) of a page: invalidates translations, marks dirty. */
  wrote(page: number, from: number, to: number): void;
  unmap(): void;
}

/** A character stream to a person or a script: the other end of a console. */
export interface Terminal {
  /** Output of the guest. */
  write(bytes: Uint8Array): void;
  /** Takes at most `max` bytes of waiting input. */
  read(max: number): Uint8Array;
  /** Calls back when input is waiting; one listener. */
  onInput(waiting: () => void): void;
}

/** A host file, opened. Offsets and lengths in bytes. All promises settle in host time: use DeviceHost.io. */
export interface HostFile {
  readonly path: string;
  readonly size: number;
  readonly writable: boolean;
  read(offset: number, into: Uint8Array): Promise<void>;
  write(offset: number, from: Uint8Array): Promise<void>;
  /** Resolves after the host's fsync. */
  flush(): Promise<void>;
  /** Gives bytes up: they read as zeros afterwards and take no room. Absent: the host cannot. */
  discard?(offset: number, length: number): Promise<void>;
  close(): Promise<void>;
}

/** A file that is made when it is opened: so many zeros, which take no room. */
export interface NewFile {
  readonly size: number;
  /** Nobody else sees the file, and it goes when it is closed or the process ends; the path is for messages only. */
  readonly temporary?: boolean;
}

/** What the host process gives to devices; core/node implements it, tests fake it. */
export interface HostServices {
  /**
   * Opens a file. Throws ConfigError with a clear sentence (missing file, no permission, a directory, ...). With `create` a file that
   * does not exist is made; one that exists is opened as it is, whatever its size.
   */
  openFile(path: string, mode: "r" | "rw", create?: NewFile): Promise<HostFile>;
  /** The terminal of a domain's console `index` (0 is the primary one). Devices share it: all write, the one that wrote last reads. */
  terminal(domain: Domain, index: number): Terminal;
}

/** What core gives to one device. */
export interface DeviceHost {
  readonly domain: Domain;
  /** `/local/domain/N/device/TYPE/ID` (or what DeviceType.frontendPath says). */
  readonly frontend: XenStoreArea;
  /** `/local/domain/0/backend/TYPE/N/ID`. */
  readonly backend: XenStoreArea;
  readonly services: HostServices;
  /** Maps granted frames of the frontend as one view; throws GrantError with Xen's status. */
  mapGrants(references: readonly number[], access: "ro" | "rw"): MappedPages;
  /** Maps frames by number: only frames that the frontend domain owns; rw takes a writable type reference. Throws GrantError. */
  mapForeign(gfns: readonly Gfn[], access: "ro" | "rw"): MappedPages;
  /** Binds an unbound port of the frontend (EVTCHNOP_bind_interdomain by domain 0). Throws EventError with Xen's errno. */
  bindEvent(remotePort: number, onEvent: () => void): { notify(): void; close(): void };
  /** The emulated devices that the domain has so far: whose addresses and interrupt lines are taken. */
  neighbours(): readonly PlacedDevice[];
  /**
   * Raises or lowers an input line of the domain's interrupt controller (an emulated device with `controller`); a line that several devices have is
   * high while one of them holds it so, and a device that goes lowers its own. Throws where there is no controller, or no such line.
   */
  interrupt(line: number, level: boolean): void;
  /** For an interrupt controller: raises or lowers an interrupt pin of a vCPU; the numbers are the arch's (RISC-V: the cause). ENODEV where there is no such pin: false. */
  pin(vcpu: number, pin: number, level: boolean): boolean;
  timer(at: Nanoseconds, fire: (now: Nanoseconds) => void): Timer;
  /** Host work in virtual time: `done` runs at now + latency; if the promise is later than that, the machine waits for it. */
  io<T>(work: Promise<T>, latency: Nanoseconds, done: (result: T | Error) => void): void;
  now(): Nanoseconds;
  /** The hypervisor's log. */
  log(message: string): void;
}

/** What a device plugin provides for its key. */
export interface DeviceType<Config = unknown> {
  readonly type: string;
  /** `emulated`: create makes an EmulatedDevice, and XenStore says nothing of it: no Xen driver is its other end. Default: `split`. */
  readonly kind?: "split" | "emulated";
  /** Checks the text of one device (xl.cfg syntax); throws ConfigError that names what is wrong. */
  parse(spec: string): Config;
  /** The device's number within the domain (the last part of its XenStore paths). `taken`: the numbers that its devices of this type have. */
  deviceId(config: Config, taken: ReadonlySet<number>): number;
  /** `xenbus` (default): core writes the state nodes and drives the handshake. `none`: connected when the domain starts. */
  readonly handshake?: "xenbus" | "none";
  /** The frontend's directory, relative to /local/domain/N. Default: `device/TYPE/ID`. */
  frontendPath?(config: Config): string;
  /** Nodes for the frontend's directory besides those that core writes (backend, backend-id, state). */
  frontendNodes?(config: Config): Readonly<Record<string, string>>;
  /** Checks and opens what the host must have, before the domain runs. A ConfigError ends the creation with its sentence. */
  open?(config: Config, services: HostServices): Promise<void>;
  create(host: DeviceHost, config: Config): SplitBackend | EmulatedDevice;
}

/** The backend half of a paravirtual device. */
export interface SplitBackend {
  readonly kind: "split";
  /** Publish features; core then goes to InitWait. */
  probe(): void;
  /** The frontend published its rings: map and bind; core then goes to Connected. Throwing refuses the frontend: state Closing, with the message in its error node. */
  connect(): void | Promise<void>;
  /** Finish or fail what is in flight, release everything that connect took. May be followed by probe again. */
  disconnect(): void | Promise<void>;
  /** The device goes away for good: release what create and probe took. */
  close?(): void | Promise<void>;
  save?(): Uint8Array;
  restore?(state: Uint8Array): void;
}

/** A region of an emulated device. */
export interface DeviceRegion {
  readonly space: "pio" | "mmio";
  readonly base: number;
  readonly size: number;
}

/** What an emulated device says of itself to who tells the guest (a device tree, ACPI tables). */
export interface DeviceDescription {
  /** Names that drivers know it by, the best first (device tree: compatible). */
  readonly compatible: readonly string[];
  /** Lines of the interrupt controller that it raises. */
  readonly interrupts: readonly number[];
  /** Further properties of a device tree node: text, 32-bit cells, or a flag (true). */
  readonly properties?: Readonly<Record<string, string | readonly number[] | true>>;
}

/** What takes the interrupt lines of a domain's devices. */
export interface InterruptController {
  /** The level of a line, perhaps the one that it has. Throws ConfigError for a line that does not exist. */
  line(line: number, level: boolean): void;
}

/** A device that pretends to be hardware. A guest access of several parts reaches it once a part, in order; 8-byte accesses as two halves. */
export interface EmulatedDevice {
  readonly kind: "emulated";
  readonly regions: readonly DeviceRegion[];
  read(region: number, offset: number, size: 1 | 2 | 4): number;
  write(region: number, offset: number, size: 1 | 2 | 4, value: number): void;
  reset(): void;
  /** What a guest is told of it; absent: nothing. */
  describe?(): DeviceDescription;
  /** It is the domain's interrupt controller; one a domain. */
  readonly controller?: InterruptController;
  /** The device goes away for good: release what open and create took. */
  close?(): void | Promise<void>;
  save?(): Uint8Array;
  restore?(state: Uint8Array): void;
}
