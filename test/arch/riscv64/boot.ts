/** A machine with RISC-V domains for tests: programs run until they end, and what they left in memory is read. */
import {
  ConfigError,
  type Domain,
  type DomainConfig,
  definePlugin,
  type HostServices,
  Hypervisor,
  type Plugin,
  type RunEnd,
  type Terminal,
} from "hookvisor";
import roundRobin from "../../../plugins/scheduler-round-robin/plugin.ts";
import { riscvPlugin } from "./guest.ts";

export interface Booted {
  readonly hypervisor: Hypervisor;
  readonly log: readonly string[];
  /** What plugins did wrong. */
  readonly faults: readonly string[];
  create(kernel: Uint8Array, options?: Partial<DomainConfig>): Promise<Domain>;
  /** Runs until every domain has shut down, or for so many ms. */
  run(ms?: number): Promise<RunEnd>;
  /** Signed 64-bit words at a guest-physical address (virtual ones of hart 0, which has no paging). */
  words(domain: Domain, address: number, count: number): number[];
  bytes(domain: Domain, address: number, count: number): Uint8Array;
}

/** Boots a machine of 64 MiB with `pcpus` pCPUs. */
export async function boot(
  options: { readonly pcpus?: number; readonly plugins?: readonly Plugin[]; readonly terminal?: Terminal } = {},
): Promise<Booted> {
  const faults: string[] = [];
  const log: string[] = [];
  const watch = definePlugin({
    name: "watch",
    api: "^1.0.0",
    apply({ hooks }) {
      hooks.pluginFault.tap("watch", (fault) => {
        faults.push(fault.reason);
        return undefined;
      });
    },
  });
  const services: HostServices = {
    openFile: (path: string) => Promise.reject(new ConfigError(`File ${path}: there are no files here.`)),
    terminal: () => options.terminal ?? { write: () => {}, read: () => new Uint8Array(0), onInput: () => {} },
  };
  const plugins = [riscvPlugin(), roundRobin, watch, ...(options.plugins ?? [])];
  const hypervisor = new Hypervisor({ plugins: plugins.map((plugin) => ({ plugin, source: plugin.name })), services });
  await hypervisor.boot({ memoryMiB: 64, cpuMhz: 100, scheduler: "round-robin", pcpus: options.pcpus ?? 1 });
  hypervisor.machine.onLog = (line) => log.push(line);
  const bytes = (domain: Domain, address: number, count: number): Uint8Array => {
    const into = new Uint8Array(count);
    const lo = address >>> 0;
    if (!domain.arch!.copyFromGuest(domain.vcpus[0]!, lo, Math.floor(address / 2 ** 32), into, count))
      throw new Error(`no memory at ${address}`);
    return into;
  };
  return {
    hypervisor,
    log,
    faults,
    create: async (kernel, config = {}) => {
      const domain = await hypervisor.createDomain({
        name: "guest",
        type: "riscv64",
        kernel,
        kernelName: "guest.elf",
        ramdisk: null,
        extra: "",
        memoryMiB: 4,
        vcpus: 1,
        devices: [],
        schedulerParams: {},
        ...config,
      });
      hypervisor.unpause(domain);
      return domain;
    },
    run: (ms = 100) =>
      hypervisor.run({
        until: hypervisor.machine.now + ms * 1e6,
        done: () => hypervisor.domains.every(({ id, shutdownReason }) => id === 0 || shutdownReason !== null),
      }),
    bytes,
    words: (domain, address, count) => {
      const view = new DataView(bytes(domain, address, 8 * count).buffer);
      return Array.from({ length: count }, (_, i) => Number(view.getBigInt64(8 * i, true)));
    },
  };
}
