/** The same guests give the same trace: run twice on two pCPUs, and through the fast tier and the readable oracle. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Domain, definePlugin, Hypervisor } from "hookvisor";
import { describe, expect, it } from "vitest";
import { PvBackend, type PvOptions } from "../../../arch/x86-pv/backend.ts";
import { addPvHypercalls } from "../../../arch/x86-pv/hypercalls.ts";
import { NodeHost } from "../../../core/node/host-services.ts";
import credit from "../../../plugins/scheduler-credit/plugin.ts";
import { randomKernel } from "./fuzz-code.ts";
import { Random } from "./fuzz-mm.ts";

const IMAGES = join(import.meta.dirname, "..", "..", "guests", "images");

/** The port with the tier of one's choice. */
function port(tier: NonNullable<PvOptions["tier"]>) {
  return definePlugin({
    name: "x86-pv",
    api: "^1.0.0",
    description: "the PV port of a test",
    apply({ hooks }) {
      let backend: PvBackend | undefined;
      hooks.arch.for("pv").tap("x86-pv", (host) => {
        backend ??= new PvBackend(host, { tier });
        return backend;
      });
      hooks.hypercalls.tap("x86-pv", (table) => {
        if (table.type === "pv" && backend !== undefined) addPvHypercalls(table, backend);
      });
    },
  });
}

/** Everything that happens to these kernels until `until`, a line each; with the registers of whoever crashes. */
async function trace(
  kernels: readonly Uint8Array[],
  options: { readonly tier: NonNullable<PvOptions["tier"]>; readonly pcpus: number; readonly until: number },
): Promise<string[]> {
  const hypervisor = new Hypervisor({
    plugins: [port(options.tier), credit].map((plugin) => ({ plugin, source: plugin.name })),
    services: new NodeHost(),
  });
  const lines: string[] = [];
  const { hooks } = hypervisor;
  hooks.hypercall.tap("test", (vcpu, nr, result, at) => lines.push(`${at} ${vcpu} call ${nr} = ${result}`));
  hooks.trap.tap("test", (vcpu, vector, error, at) => lines.push(`${at} ${vcpu} trap ${vector} ${error}`));
  hooks.eventSend.tap("test", (domain, to, at) => lines.push(`${at} ${domain} event ${to}`));
  await hypervisor.boot({ memoryMiB: 64, pcpus: options.pcpus, scheduler: "credit" });
  hypervisor.machine.onLog = (line) => lines.push(line);
  const domains: Domain[] = [];
  for (const [i, kernel] of kernels.entries()) {
    const domain = await hypervisor.createDomain({
      name: `k${i}`,
      type: "pv",
      kernel,
      kernelName: `k${i}`,
      ramdisk: null,
      extra: "console=io",
      memoryMiB: 8,
      vcpus: 1,
      devices: [],
      schedulerParams: {},
    });
    domain.onConsoleWrite = (bytes) => lines.push(new TextDecoder().decode(bytes));
    domains.push(domain);
  }
  for (const domain of domains) hypervisor.unpause(domain);
  const done = (): boolean => domains.every((domain) => domain.shutdownReason !== null);
  await hypervisor.run({ until: options.until, done });
  for (const domain of domains) lines.push(domain.arch!.describe(domain.vcpus[0]!));
  lines.push(`${hypervisor.machine.now} ${hypervisor.loop.retired}`);
  await hypervisor.shutdown();
  return lines;
}

describe("a run", () => {
  it("is the same twice, on two pCPUs", async () => {
    const kernels = ["hello", "clock", "hostile-mm", "events"].map((name) => readFileSync(join(IMAGES, `${name}.elf`)));
    const options = { tier: "interpreter", pcpus: 2, until: 10e6 } as const;
    const first = await trace(kernels, options);
    expect(first.length).toBeGreaterThan(100);
    expect(await trace(kernels, options)).toEqual(first);
  });

  it("is the same in the oracle", async () => {
    const kernels = [readFileSync(join(IMAGES, "hello.elf")), readFileSync(join(IMAGES, "hostile-mm.elf"))];
    for (const image of [...kernels, randomKernel(new Random(7)), randomKernel(new Random(8))]) {
      const options = { pcpus: 1, until: 60_000 };
      const fast = await trace([image], { ...options, tier: "interpreter" });
      expect(fast.length).toBeGreaterThan(3);
      expect(await trace([image], { ...options, tier: "oracle" })).toEqual(fast);
    }
  });
});
