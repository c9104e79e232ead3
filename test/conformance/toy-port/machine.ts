/**
 * A booted hypervisor with toy domains, for the tests: the real class with real plugins, a terminal for each console, and reading guest
 * memory by the labels of the program.
 */

import type { FieldSpecs, Layout, Struct } from "../../../core/abi/struct.ts";
import type { HostServices, Terminal } from "../../../core/device/device-type.ts";
import type { Domain } from "../../../core/domain/domain.ts";
import { ConfigError } from "../../../core/errors.ts";
import { type DomainConfig, Hypervisor, type HypervisorSetup } from "../../../core/hypervisor.ts";
import type { MachineConfig } from "../../../core/machine/machine.ts";
import type { Plugin } from "../../../core/plugin.ts";
import type { RunEnd, RunOptions } from "../../../core/runner.ts";
import deviceConsole from "../../../plugins/device-console/plugin.ts";
import credit from "../../../plugins/scheduler-credit/plugin.ts";
import roundRobin from "../../../plugins/scheduler-round-robin/plugin.ts";
import { TOY_ABI } from "./image.ts";
import type { Assembler } from "./isa.ts";
import toy from "./plugin.ts";

/** What a console shows and takes. */
export class FakeTerminal implements Terminal {
  output = "";
  #input: Uint8Array = new Uint8Array(0);
  #waiting: () => void = () => {};

  write(bytes: Uint8Array): void {
    this.output += String.fromCharCode(...bytes);
  }
  read(max: number): Uint8Array {
    const got = this.#input.subarray(0, max);
    this.#input = this.#input.subarray(got.length);
    return got;
  }
  onInput(waiting: () => void): void {
    this.#waiting = waiting;
  }
  type(text: string): void {
    this.#input = new TextEncoder().encode(text);
    this.#waiting();
  }
}

export interface ToyOptions extends Partial<MachineConfig> {
  readonly scheduler?: string;
  readonly plugins?: readonly Plugin[];
  /** A plugin of the test's own. */
  readonly apply?: (hypervisor: HypervisorSetup) => void;
}

/** A program and its domain. */
export interface Guest {
  readonly domain: Domain;
  readonly program: Assembler;
}

/** Most virtual time of a run: a guest that does not end is a failure. The CPUs are slow, 50 MHz, as the toy's interpreter is. */
const LIMIT = 60e9;

export class ToyMachine {
  readonly hypervisor: Hypervisor;
  readonly log: string[] = [];
  readonly terminals = new Map<string, FakeTerminal>();

  private constructor(hypervisor: Hypervisor) {
    this.hypervisor = hypervisor;
  }

  static async boot(options: ToyOptions = {}): Promise<ToyMachine> {
    const { scheduler = "credit", plugins = [], apply, ...config } = options;
    let machine: ToyMachine | null = null;
    const services: HostServices = {
      openFile: (path) => Promise.reject(new ConfigError(`File ${path}: this host has none.`)),
      terminal: (domain) => machine!.terminal(domain),
    };
    const own: Plugin = { name: "test", api: "^1.0.0", apply: apply ?? (() => {}) };
    const loaded = [toy, credit, roundRobin, deviceConsole, ...plugins, own].map((plugin) => ({
      plugin,
      source: plugin.name,
    }));
    const hypervisor = new Hypervisor({ plugins: loaded, services });
    machine = new ToyMachine(hypervisor);
    await hypervisor.boot({ memoryMiB: 16, cpuMhz: 50, ...config, scheduler });
    hypervisor.machine.onLog = (line) => machine.log.push(line);
    return machine;
  }

  terminal(domain: Domain): FakeTerminal {
    let terminal = this.terminals.get(domain.name);
    if (terminal === undefined) {
      terminal = new FakeTerminal();
      this.terminals.set(domain.name, terminal);
    }
    return terminal;
  }

  static config(name: string, kernel: Uint8Array, config: Partial<DomainConfig> = {}): DomainConfig {
    return {
      name,
      type: "toy",
      kernel,
      kernelName: `${name}.toy`,
      ramdisk: null,
      extra: "",
      memoryMiB: 1,
      vcpus: 1,
      devices: [],
      schedulerParams: {},
      ...config,
    };
  }

  /** Creates a domain for a program; it is paused. */
  async create(name: string, program: Assembler, config: Partial<DomainConfig> = {}): Promise<Guest> {
    const domain = await this.hypervisor.createDomain(ToyMachine.config(name, program.image(), config));
    return { domain, program };
  }

  /** Creates a domain and lets it run. */
  async start(name: string, program: Assembler, config: Partial<DomainConfig> = {}): Promise<Guest> {
    const guest = await this.create(name, program, config);
    this.hypervisor.unpause(guest.domain);
    return guest;
  }

  /** Runs until all of these have shut down, or as the options say. */
  async run(options: RunOptions & { readonly end?: readonly Guest[] } = {}): Promise<RunEnd> {
    const { end, ...rest } = options;
    const done = end === undefined ? {} : { done: () => end.every((guest) => guest.domain.shutdownReason !== null) };
    return this.hypervisor.run({ until: this.hypervisor.machine.now + LIMIT, ...done, ...rest });
  }

  /** Starts one program, runs it to its end, and returns it. */
  async runProgram(program: Assembler, config: Partial<DomainConfig> = {}): Promise<Guest> {
    const guest = await this.start("toy", program, config);
    const end = await this.run({ end: [guest] });
    if (end !== "done" || guest.domain.crashMessage !== "")
      throw new Error(`the program ended by ${end}: ${guest.domain.crashMessage}\n${this.log.join("\n")}`);
    return guest;
  }

  /** Bytes of guest memory. */
  read({ domain, program }: Guest, place: string | number, length: number): DataView {
    const bytes = new Uint8Array(length);
    const address = typeof place === "string" ? program.address(place) : place;
    if (!domain.arch!.copyFromGuest(domain.vcpus[0]!, address, 0, bytes, length))
      throw new Error(`no memory at ${place}`);
    return new DataView(bytes.buffer);
  }
  /** A variable, signed. */
  word(guest: Guest, place: string | number): number {
    return this.read(guest, place, 4).getInt32(0);
  }
  /** Several words, unsigned. */
  words(guest: Guest, place: string | number, count: number): number[] {
    const view = this.read(guest, place, 4 * count);
    return Array.from({ length: count }, (_, i) => view.getUint32(4 * i));
  }
  /** A structure. */
  struct<F extends FieldSpecs>(guest: Guest, place: string | number, type: Struct<F>): ReturnType<Layout<F>["read"]> {
    const layout = type.at(TOY_ABI);
    return layout.read(this.read(guest, place, layout.size), 0);
  }
}

export { Assembler } from "./isa.ts";
