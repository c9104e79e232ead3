/**
 * A guest made of TypeScript: a domain without a CPU whose frontend is a test's script. Everything between it and a backend is
 * the real core: hypervisor, XenStore, xenbus handshake, grants, event channels, virtual time.
 *
 * Design: the arch's vCPU runs only to take upcalls (it counts the events and blocks again); the test writes into the domain's frames, grants them,
 * writes its nodes, sends events, and lets the machine run until nothing happens any more.
 */
import { GTF } from "../../core/abi/index.ts";
import {
  type ArchBackend,
  type BuildResult,
  createExit,
  type DomainImage,
  type Exit,
  ExitCode,
  type PlacedDevice,
} from "../../core/architecture/arch-backend.ts";
import type { GuestAbi } from "../../core/architecture/guest-abi.ts";
import type { HostFile, HostServices, NewFile, Terminal } from "../../core/device/device-type.ts";
import type { Domain } from "../../core/domain/domain.ts";
import type { Vcpu } from "../../core/domain/vcpu.ts";
import { ConfigError } from "../../core/errors.ts";
import { Hypervisor } from "../../core/hypervisor.ts";
import { FRAME_SIZE, type Frames } from "../../core/machine/frames.ts";
import { definePlugin, type Plugin } from "../../core/plugin.ts";
import type { RunEnd, RunOptions } from "../../core/runner.ts";
import { FifoScheduler } from "../../core/scheduling/fifo.ts";
import { FAKE_ABIS, FakeArch } from "./fake-arch.ts";

/** Bytes of a version 1 grant entry. */
const GRANT_ENTRY = 8;

/** The pin that its vCPUs have: a RISC-V hart's supervisor external interrupt. */
export const SCRIPTED_PIN = 9;

/** Its vCPUs take upcalls and block. */
class ScriptedArch extends FakeArch {
  readonly events = new Map<Domain, Map<number, number>>();
  /** Levels of the pins that were ever set, by `VCPU:PIN`. */
  readonly pins = new Map<Domain, Map<string, boolean>>();
  /** What a port would tell its guest of. */
  readonly placed = new Map<Domain, readonly PlacedDevice[]>();
  readonly substitutes: Readonly<Record<string, string>>;
  readonly #memory: Frames;

  constructor(frames: Frames, abi: GuestAbi, substitutes: Readonly<Record<string, string>>) {
    super(frames, abi, false);
    this.#memory = frames;
    this.substitutes = substitutes;
  }

  setPin(vcpu: Vcpu, pin: number, level: boolean): boolean {
    if (pin !== SCRIPTED_PIN) return false;
    const pins = this.pins.get(vcpu.domain) ?? new Map<string, boolean>();
    this.pins.set(vcpu.domain, pins.set(`${vcpu.id}:${pin}`, level));
    return true;
  }

  devicesReady(domain: Domain, devices: readonly PlacedDevice[]): void {
    this.placed.set(domain, devices);
  }

  override buildDomain(domain: Domain, image: DomainImage): BuildResult {
    super.buildDomain(domain, image);
    this.events.set(domain, new Map());
    const { pages } = this.space(domain);
    return { storeMfn: pages.get(1)!.mfn, consoleMfn: pages.get(2)!.mfn };
  }

  override run(vcpu: Vcpu, _budget: number, exit: Exit): number {
    exit.code = ExitCode.halt;
    const { shared } = vcpu.domain;
    if (shared === null || !shared.upcallPending(vcpu)) return 1;
    const counts = this.events.get(vcpu.domain)!;
    const { wordBytes } = vcpu.domain.abi;
    // evtchn_upcall_pending, then the selector, which follows the mask byte and padding to a word.
    this.#memory.bytes[vcpu.infoAddress] = 0;
    this.#memory.bytes.fill(0, vcpu.infoAddress + wordBytes, vcpu.infoAddress + 2 * wordBytes);
    for (let port = 1; port < 128; port++) {
      if (!shared.isPending(port)) continue;
      shared.clearPending(port);
      counts.set(port, (counts.get(port) ?? 0) + 1);
    }
    return 1;
  }
}

/** A terminal that keeps what it got. */
export class RecordingTerminal implements Terminal {
  readonly output: number[] = [];
  #input: number[] = [];
  #listener: () => void = () => {};

  get text(): string {
    return String.fromCharCode(...this.output);
  }
  write(bytes: Uint8Array): void {
    this.output.push(...bytes);
  }
  read(max: number): Uint8Array {
    return Uint8Array.from(this.#input.splice(0, max));
  }
  onInput(waiting: () => void): void {
    this.#listener = waiting;
  }
  type(text: string): void {
    this.#input.push(...[...text].map((c) => c.charCodeAt(0)));
    this.#listener();
  }
  /** Input that nobody has taken yet. */
  get waiting(): number {
    return this.#input.length;
  }
}

/** A host file in memory; every operation is noted and takes as long as `delay` says. */
export class MemoryFile implements HostFile {
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly writable: boolean;
  readonly operations: string[] = [];
  closed = false;
  /** Called at each operation: wait here, or throw. */
  gate: (operation: string) => Promise<void> = async () => {};

  constructor(path: string, bytes: Uint8Array, writable: boolean) {
    this.path = path;
    this.bytes = bytes;
    this.writable = writable;
  }
  get size(): number {
    return this.bytes.length;
  }
  async #begin(operation: string): Promise<void> {
    if (this.closed) throw new Error(`${operation} of a closed file`);
    this.operations.push(operation);
    await this.gate(operation);
  }
  async read(offset: number, into: Uint8Array): Promise<void> {
    await this.#begin(`read ${offset} ${into.length}`);
    into.set(this.bytes.subarray(offset, offset + into.length));
  }
  async write(offset: number, from: Uint8Array): Promise<void> {
    await this.#begin(`write ${offset} ${from.length}`);
    if (!this.writable) throw new Error("write of a read-only file");
    this.bytes.set(from, offset);
  }
  async flush(): Promise<void> {
    await this.#begin("flush");
  }
  async discard(offset: number, length: number): Promise<void> {
    await this.#begin(`discard ${offset} ${length}`);
    this.bytes.fill(0, offset, offset + length);
  }
  async close(): Promise<void> {
    this.closed = true;
  }
}

/** Host services of a test: files by path, one terminal a domain. */
export class MemoryHost implements HostServices {
  readonly files = new Map<string, Uint8Array>();
  readonly opened: MemoryFile[] = [];
  readonly terminals = new Map<string, RecordingTerminal>();
  /** Gate of files opened from now on. */
  gate: (operation: string) => Promise<void> = async () => {};

  async openFile(path: string, mode: "r" | "rw", create?: NewFile): Promise<HostFile> {
    let bytes = create?.temporary === true ? new Uint8Array(create.size) : this.files.get(path);
    if (bytes === undefined && create !== undefined) {
      bytes = new Uint8Array(create.size);
      this.files.set(path, bytes);
    }
    if (bytes === undefined) throw new ConfigError(`File ${path}: there is no such file.`);
    const file = new MemoryFile(path, bytes, mode === "rw");
    file.gate = this.gate;
    this.opened.push(file);
    return file;
  }
  terminal(domain: Domain, index: number): RecordingTerminal {
    const key = `${domain.name}/${index}`;
    let terminal = this.terminals.get(key);
    if (terminal === undefined) {
      terminal = new RecordingTerminal();
      this.terminals.set(key, terminal);
    }
    return terminal;
  }
}

/** What a scripted machine is made of. */
export interface ScriptedOptions {
  readonly plugins: readonly Plugin[];
  readonly devices: readonly { readonly type: string; readonly spec: string }[];
  readonly abi?: GuestAbi;
  readonly host?: MemoryHost;
  /** Guests with these devices; default 1. */
  readonly guests?: number;
  /** vCPUs of each; default 1. */
  readonly vcpus?: number;
  readonly substitutes?: Readonly<Record<string, string>>;
}

/** A machine with scripted guests. */
export interface ScriptedMachine {
  readonly hypervisor: Hypervisor;
  readonly host: MemoryHost;
  readonly guests: readonly ScriptedGuest[];
  /** The hypervisor's log. */
  readonly log: readonly string[];
  /** One line for each tracing hook that was called. */
  readonly trace: readonly string[];
  run(options?: RunOptions): Promise<RunEnd>;
}

/** Boots a machine and creates its guests, running. */
export async function scriptedMachine(options: ScriptedOptions): Promise<ScriptedMachine> {
  const { abi = FAKE_ABIS[0]!, host = new MemoryHost() } = options;
  let arch: ScriptedArch | null = null;
  const own = definePlugin({
    name: "scripted",
    api: "^1.0.0",
    apply(hypervisor) {
      hypervisor.hooks.arch.for("scripted").tap("scripted", (archHost): ArchBackend => {
        arch = new ScriptedArch(archHost.frames, abi, options.substitutes ?? {});
        return arch;
      });
      hypervisor.hooks.scheduler.for("fifo").tap("scripted", (schedulerHost) => new FifoScheduler(schedulerHost));
    },
  });
  const plugins = [own, ...options.plugins].map((plugin) => ({ plugin, source: "test" }));
  const hypervisor = new Hypervisor({ plugins, services: host });
  const log: string[] = [];
  const trace: string[] = [];
  const { hooks } = hypervisor;
  hooks.eventSend.tap("test", (domain, port, now) => void trace.push(`${now} event d${domain.id} ${port}`));
  hooks.deviceState.tap(
    "test",
    (domain, device, state, now) => void trace.push(`${now} device d${domain.id} ${device} ${state}`),
  );
  hooks.grantMap.tap(
    "test",
    (_mapper, granter, reference, status, now) => void trace.push(`${now} grant d${granter.id} ${reference} ${status}`),
  );
  await hypervisor.boot({ memoryMiB: 8, scheduler: "fifo" });
  hypervisor.machine.onLog = (line) => void log.push(line);
  const guests: ScriptedGuest[] = [];
  for (let i = 0; i < (options.guests ?? 1); i++) {
    const domain = await hypervisor.createDomain({
      name: `guest${i}`,
      type: "scripted",
      kernel: new Uint8Array(0),
      kernelName: "script",
      ramdisk: null,
      extra: "",
      memoryMiB: 1,
      vcpus: options.vcpus ?? 1,
      devices: options.devices,
      schedulerParams: {},
    });
    guests.push(new ScriptedGuest(hypervisor, domain, arch!));
    hypervisor.unpause(domain);
  }
  return { hypervisor, host, guests, log, trace, run: (limits) => hypervisor.run({ wallTimeout: 10_000, ...limits }) };
}

/** One scripted guest: its frames, grants, ports and nodes. */
export class ScriptedGuest {
  readonly hypervisor: Hypervisor;
  readonly domain: Domain;
  readonly #arch: ScriptedArch;
  #nextPage = 8;
  #nextReference = 8;

  constructor(hypervisor: Hypervisor, domain: Domain, arch: ScriptedArch) {
    this.hypervisor = hypervisor;
    this.domain = domain;
    this.#arch = arch;
  }

  /** Takes a fresh frame of the domain; its number. */
  frame(): number {
    return this.#arch.space(this.domain).pages.get(this.#nextPage++)!.mfn;
  }
  /** The bytes of a frame. */
  page(mfn: number): Uint8Array {
    return this.hypervisor.machine.frames.page(mfn);
  }
  view(mfn: number): DataView {
    const page = this.page(mfn);
    return new DataView(page.buffer, page.byteOffset, FRAME_SIZE);
  }
  /** Grants a frame to domain 0; the reference. */
  grant(mfn: number, readonly = false): number {
    const reference = this.#nextReference++;
    this.setGrant(reference, mfn, GTF.permit_access | (readonly ? GTF.readonly : 0));
    return reference;
  }
  /** Writes a grant entry as it is: a guest may write anything. */
  setGrant(reference: number, mfn: number, flags: number): void {
    const { grants } = this.domain;
    const perFrame = FRAME_SIZE / GRANT_ENTRY;
    grants.grow(Math.floor(reference / perFrame) + 1);
    const view = this.view(grants.frameAt(Math.floor(reference / perFrame)));
    const at = (reference % perFrame) * GRANT_ENTRY;
    const little = this.domain.abi.endian === "little";
    view.setUint16(at + 2, 0, little);
    view.setUint32(at + 4, mfn, little);
    view.setUint16(at, flags, little);
  }
  /** Is a grant in use by a backend? */
  inUse(reference: number): boolean {
    return this.domain.grants.active(reference) !== undefined;
  }
  /** A port that domain 0 may bind. */
  port(): number {
    return this.domain.events.allocUnbound(0);
  }
  send(port: number): void {
    this.domain.events.send(port);
  }
  /** Events of a port that it has taken. */
  events(port: number): number {
    return this.#arch.events.get(this.domain)?.get(port) ?? 0;
  }
  /** The home directory's node, as domain 0 reads it. */
  read(path: string): string | undefined {
    return this.hypervisor.store.client.tryRead(`/local/domain/${this.domain.id}/${path}`);
  }
  write(path: string, value: string | number): void {
    this.hypervisor.store.client.write(`/local/domain/${this.domain.id}/${path}`, String(value));
  }
  /** Reads an address of its bus. */
  ioRead(address: number, size: 1 | 2 | 4 = 4, space: "mmio" | "pio" = "mmio"): number {
    return this.#io(address, size, space, null);
  }
  ioWrite(address: number, value: number, size: 1 | 2 | 4 = 4, space: "mmio" | "pio" = "mmio"): void {
    this.#io(address, size, space, value);
  }
  #io(address: number, size: 1 | 2 | 4, space: "mmio" | "pio", value: number | null): number {
    const exit = createExit();
    const [addressLo, addressHi] = [address % 2 ** 32, Math.floor(address / 2 ** 32)];
    Object.assign(exit, { space, addressLo, addressHi, size, write: value !== null, valueLo: value ?? 0 });
    this.hypervisor.devices.io(this.domain, exit);
    return exit.valueLo;
  }
  /** The level of a vCPU's pin. */
  pin(vcpu = 0, pin = SCRIPTED_PIN): boolean {
    return this.#arch.pins.get(this.domain)?.get(`${vcpu}:${pin}`) ?? false;
  }
  /** Its emulated devices, as its port was told of them. */
  get placed(): readonly PlacedDevice[] {
    return this.#arch.placed.get(this.domain) ?? [];
  }
  /** A node of the backend of one of its devices. */
  backend(type: string, id: number, key: string): string | undefined {
    return this.hypervisor.store.client.tryRead(`/local/domain/0/backend/${type}/${this.domain.id}/${id}/${key}`);
  }
}
