/**
 * Domains of the test kernels from creation to destruction, in one process: every frame comes back, two hypervisors do not meet.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Domain } from "hookvisor";
import { expect, it } from "vitest";
import x86Pv from "../../../arch/x86-pv/plugin.ts";
import { Hypervisor } from "../../../core/hypervisor.ts";
import { NodeHost } from "../../../core/node/host-services.ts";
import roundRobin from "../../../plugins/scheduler-round-robin/plugin.ts";

const IMAGES = join(import.meta.dirname, "..", "..", "guests", "images");

/** Runs the named kernels side by side to their end; answers what they wrote by console_io, and frames before and after. */
async function life(names: readonly string[], extra = ""): Promise<{ text: string; before: number; after: number }> {
  const hypervisor = new Hypervisor({
    plugins: [x86Pv, roundRobin].map((plugin) => ({ plugin, source: plugin.name })),
    services: new NodeHost(),
  });
  await hypervisor.boot({ memoryMiB: 64, scheduler: "round-robin" });
  const { frames } = hypervisor.machine;
  let text = "";
  const generation = async (): Promise<number> => {
    const domains: Domain[] = [];
    for (const name of names) {
      const domain = await hypervisor.createDomain({
        name,
        type: "pv",
        kernel: readFileSync(join(IMAGES, `${name}.elf`)),
        kernelName: name,
        ramdisk: null,
        extra,
        memoryMiB: 8,
        vcpus: 1,
        devices: [],
        schedulerParams: {},
      });
      domain.onConsoleWrite = (bytes) => {
        text += new TextDecoder().decode(bytes);
      };
      domains.push(domain);
    }
    for (const domain of domains) hypervisor.unpause(domain);
    await hypervisor.run({ until: 2e9, done: () => domains.every((domain) => domain.shutdownReason !== null) });
    for (const domain of domains) await hypervisor.destroyDomain(domain);
    return frames.free;
  };
  // The backend takes the frames of its machine-to-physical table with the first domain: they stay.
  const before = await generation();
  const after = await generation();
  await hypervisor.shutdown();
  return { text, before, after };
}

it("everything a domain had comes back when it is destroyed, whatever it did with its page tables", async () => {
  const [hello, hostile] = await Promise.all([life(["hello"]), life(["hostile-mm"], "console=io")]);
  expect(hello.text.match(/Hello, Xen!/g)?.length).toBe(2);
  expect(hello.after).toBe(hello.before);
  expect(hello.before).toBe(64 * 256 - 32 - 1 - 2);
  expect(hostile.text.match(/hostile-mm: done/g)?.length).toBe(2);
  expect([hostile.before, hostile.after]).toEqual([hello.before, hello.before]);
});
