/**
 * Two Debian domains and one GRUB in one machine under the credit scheduler: one panics, one is destroyed in the middle of its
 * work, the others go on; and when all are gone every frame, grant and port is free again.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { type Domain, Hypervisor, ShutdownReason, type Terminal } from "../../core/index.ts";
import { hostPlugin } from "../../core/node/host-plugin.ts";
import { NodeHost } from "../../core/node/host-services.ts";
import { loadProjectPlugins } from "../../core/node/load.ts";
import { defaultCacheDir } from "../../plugins/lib-debian/index.ts";
import { unpackKernel } from "../../plugins/lib-image/index.ts";
import { readyImage } from "../../plugins/toolstack-images/build.ts";
import { CATALOGUE } from "../../plugins/toolstack-images/catalogue.ts";
import { Progress } from "../../plugins/toolstack-images/progress.ts";
import { ImageStore } from "../../plugins/toolstack-images/store.ts";
import { GRUB_PV, itWithGuest } from "../tools/guest-file.ts";

const TIMEOUT = 300_000;
/** Virtual time that each step may take. */
const PATIENCE = 5e9;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-side-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A console with somebody at it. */
class Typist implements Terminal {
  printed = "";
  #typed: number[] = [];
  #waiting: () => void = () => {};
  write(bytes: Uint8Array): void {
    this.printed += String.fromCharCode(...bytes);
  }
  read(max: number): Uint8Array {
    return Uint8Array.from(this.#typed.splice(0, max));
  }
  onInput(waiting: () => void): void {
    this.#waiting = waiting;
  }
  type(line: string): void {
    this.#typed.push(...Buffer.from(line));
    this.#waiting();
  }
}

/** A machine with the project's own plugins, and a console for each domain by its name. */
async function machine() {
  const host = new NodeHost();
  const consoles = new Map<string, Typist>();
  host.terminals = (domain: Domain) => {
    const one = new Typist();
    consoles.set(domain.name, one);
    return one;
  };
  const hypervisor = new Hypervisor({ plugins: [hostPlugin(), ...(await loadProjectPlugins())], services: host });
  await hypervisor.boot({ scheduler: "credit", memoryMiB: 1024, pcpus: 2 });
  /** Runs until a console shows `text` after what it showed before. */
  const shows = async (name: string, text: string): Promise<void> => {
    const one = consoles.get(name)!;
    const from = one.printed.length;
    const end = await hypervisor.run({
      until: hypervisor.machine.now + PATIENCE,
      done: () => one.printed.indexOf(text, from) >= 0,
    });
    expect(end, `${name} prints ${text}; it printed ${one.printed.slice(-500)}`).toBe("done");
  };
  const says = async (name: string, line: string, answer: string): Promise<void> => {
    consoles.get(name)!.type(line);
    await shows(name, answer);
  };
  return { hypervisor, consoles, shows, says };
}

/** What is in use: free frames, and the ports and grants of domain 0 and of all others. */
function inUse(hypervisor: Hypervisor) {
  return {
    free: hypervisor.machine.frames.free,
    domains: hypervisor.domains.map((d) => d.name),
    ports: hypervisor.domains.reduce((sum, d) => sum + d.events.used, 0),
    grants: hypervisor.domains.reduce((sum, d) => sum + d.grants.activeCount, 0),
  };
}

describe("several domains, one machine", () => {
  itWithGuest(
    "a panic and a destruction leave the others running, and everything is given back",
    GRUB_PV,
    async (grubPath) => {
      const recipe = CATALOGUE.find((r) => r.name === "debian")!;
      const options = {
        store: new ImageStore(defaultCacheDir()),
        progress: new Progress(process.stderr, true),
        fetch: {},
      };
      const image = await readyImage(recipe, options);
      const kernel = await unpackKernel(new Uint8Array(await readFile(image.kernel)), image.kernel);
      const ramdisk = new Uint8Array(await readFile(image.ramdisk!));
      for (const disk of ["one", "two"]) writeFileSync(join(folder, `${disk}.img`), new Uint8Array(1 << 20));
      const { hypervisor, shows, says, consoles } = await machine();
      const debian = (name: string, vcpus: number) => ({
        name,
        type: "pv",
        kernel,
        kernelName: image.kernel,
        ramdisk,
        extra: "console=hvc0 cryptomgr.notests",
        memoryMiB: 256,
        vcpus,
        schedulerParams: {},
        devices: [
          { type: "console", spec: "" },
          { type: "vbd", spec: `${join(folder, `${name}.img`)},raw,xvda,w` },
          { type: "vif", spec: "" },
        ],
      });
      const grubConfig = {
        ...debian("grub", 1),
        kernel: new Uint8Array(await readFile(grubPath)),
        kernelName: grubPath,
        ramdisk: null,
        extra: "",
        memoryMiB: 64,
        devices: [{ type: "console", spec: "" }],
      };
      // The arch takes frames of its own (the machine-to-physical table) with the first domain, and keeps them.
      await hypervisor.destroyDomain(await hypervisor.createDomain(grubConfig));
      const before = inUse(hypervisor);
      const one = await hypervisor.createDomain(debian("one", 1));
      const two = await hypervisor.createDomain(debian("two", 4));
      const grub = await hypervisor.createDomain(grubConfig);
      for (const domain of [one, two]) hypervisor.unpause(domain);
      await shows("two", "root@");
      if (!consoles.get("one")!.printed.includes("root@")) await shows("one", "root@");
      // GRUB asks for input in a loop: from here on there is no idle time.
      hypervisor.unpause(grub);
      await shows("grub", "grub>");
      await says("one", "ping -c 2 two; echo p''inged\r", "pinged");
      expect(consoles.get("one")!.printed).toContain("2 packets received");
      await says("two", "nproc; echo c''ounted\r", "counted");
      expect(consoles.get("two")!.printed).toMatch(/\n4\r?\n/);

      // One panics: it is still there, and nobody else feels it.
      await says("one", "dd if=/dev/zero of=/dev/xvda bs=4k count=64 & echo c >/proc/sysrq-trigger\r", "Kernel panic");
      await hypervisor.run({ until: hypervisor.machine.now + PATIENCE, done: () => one.shutdownReason !== null });
      expect(one.shutdownReason).toBe(ShutdownReason.crash);
      await says("two", "echo still h''ere\r", "still here");
      await says("grub", "echo grub l''ives\r", "lives");
      await hypervisor.destroyDomain(one);
      expect(hypervisor.domains.map((d) => d.name)).toEqual(["Domain-0", "two", "grub"]);

      // The other is destroyed while its disk and network are at work.
      consoles.get("two")!.type("ping 10.0.0.1 >/dev/null & dd if=/dev/zero of=/dev/xvda bs=4k count=200; sync\r");
      await hypervisor.run({ until: hypervisor.machine.now + 3e6 });
      await hypervisor.destroyDomain(two);
      await says("grub", "echo grub a''gain\r", "again");
      await hypervisor.destroyDomain(grub);
      await hypervisor.run({ until: hypervisor.machine.now + 1e6 });
      expect(inUse(hypervisor)).toEqual(before);
      await hypervisor.shutdown();
    },
    TIMEOUT,
  );
});
