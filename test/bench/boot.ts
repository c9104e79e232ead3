/**
 * The boot of Debian's kernel to its shell, here and by QEMU's translator (TCG), from the same kernel, the same ramdisk, the same memory, one
 * CPU, the same options of the kernel's: on x86 as a PV domain here and as a PVH guest in QEMU, on RISC-V on a machine like QEMU's `virt` and on that.
 *
 * A run is a process of its own, timed from its start to the shell's prompt on its output, then killed: start-up counts. Beside wall time, which
 * other load on the host stretches, CPU time of all its threads and resident memory are read from /proc at the prompt.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defaultCacheDir } from "../../plugins/lib-debian/index.ts";
import { readKernel } from "../../plugins/lib-image/index.ts";
import { readyImage } from "../../plugins/toolstack-images/build.ts";
import { CATALOGUE } from "../../plugins/toolstack-images/catalogue.ts";
import { Progress } from "../../plugins/toolstack-images/progress.ts";
import { ImageStore } from "../../plugins/toolstack-images/store.ts";
import type { Isa } from "./compute.ts";
import { median } from "./statistics.ts";

const PROMPT = "root@debian";
const LIMIT_MS = 300_000;
const BIN = join(import.meta.dirname, "..", "..", "core", "node", "bin", "hookvisor.js");

/** What is booted, and how QEMU boots it. */
export interface BootCase {
  readonly isa: Isa;
  readonly what: string;
  /** Name in the catalogue of images. */
  readonly image: string;
  /** The kernel's options besides its console, and those of them that the image has not. */
  readonly options: string;
  readonly more: string | null;
  readonly qemu: string;
  /** Debian's packages with it; the machine's own options. */
  readonly packages: string;
  readonly machine: readonly string[];
}

export const BOOTS: readonly BootCase[] = [
  {
    isa: "x86",
    what: "Debian 12's cloud kernel",
    image: "debian",
    options: "cryptomgr.notests",
    more: null,
    qemu: "qemu-system-x86_64",
    packages: "qemu-system-x86",
    machine: [],
  },
  {
    isa: "riscv64",
    what: "Debian 13's kernel for RISC-V",
    image: "debian-riscv64",
    // without the jitter entropy's start, which measures the clock for a while
    options: "cryptomgr.notests initcall_blacklist=jent_mod_init",
    more: "initcall_blacklist=jent_mod_init",
    qemu: "qemu-system-riscv64",
    packages: "qemu-system-misc opensbi",
    machine: ["-M", "virt", "-smp", "1", "-bios", "default"],
  },
];

/** One boot. Times in seconds, memory in MiB; what only /proc tells is null elsewhere. */
export interface Boot {
  readonly wall: number;
  readonly cpu: number | null;
  readonly resident: number | null;
  readonly peak: number | null;
}

/** Medians, and every run. */
export interface BootSeries extends Boot {
  readonly all: readonly Boot[];
}

export interface BootResult {
  readonly isa: Isa;
  readonly kernel: string;
  readonly memoryMiB: number;
  readonly here: BootSeries;
  /** null: there is no QEMU; then `absent` says so. */
  readonly qemu: (BootSeries & { readonly version: string }) | null;
  readonly absent: string | null;
}

/** Boots both `runs` times in turn, so that load on the host meets both. */
export async function boot(of: BootCase, runs: number): Promise<BootResult> {
  const recipe = CATALOGUE.find((image) => image.name === of.image);
  if (recipe === undefined) throw new Error(`the catalogue has no image ${of.image}`);
  const store = new ImageStore(defaultCacheDir());
  const image = await readyImage(recipe, { store, progress: new Progress(process.stderr, false), fetch: {} });
  const folder = mkdtempSync(join(tmpdir(), "hookvisor-bench-"));
  try {
    const script = join(folder, "input");
    writeFileSync(script, `expect ${PROMPT}\nsend poweroff\\r\n`);
    const memoryMiB = recipe.memory;
    const ours = [BIN, "run", of.image, "--memory", `${memoryMiB}`, "-q", "--input", script];
    if (of.more !== null) ours.push("--extra", of.more);
    const version = qemuVersion(of.qemu);
    const vmlinux = join(folder, "vmlinux");
    if (version !== null) writeFileSync(vmlinux, await readKernel(image.kernel));
    const common = ["-accel", "tcg", "-m", `${memoryMiB}`, "-nodefaults", "-no-user-config", "-nographic"];
    const machine = [...of.machine, ...common, "-serial", "stdio"];
    const theirs = [...machine, "-kernel", vmlinux, "-append", `console=ttyS0 ${of.options}`];
    if (image.ramdisk !== null) theirs.push("-initrd", image.ramdisk);
    const here: Boot[] = [];
    const qemu: Boot[] = [];
    for (let i = 0; i < runs; i++) {
      here.push(await toPrompt(process.execPath, ours));
      if (version !== null) qemu.push(await toPrompt(of.qemu, theirs));
    }
    return {
      isa: of.isa,
      kernel: image.record.version,
      memoryMiB,
      here: series(here),
      qemu: version === null ? null : { ...series(qemu), version },
      absent: version === null ? `${of.qemu} is not installed (Debian: apt install ${of.packages})` : null,
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function qemuVersion(qemu: string): string | null {
  const { status, stdout } = spawnSync(qemu, ["--version"], { encoding: "utf8" });
  return status === 0 ? (stdout.split("\n")[0] ?? "") : null;
}

function series(all: readonly Boot[]): BootSeries {
  const of = (key: keyof Boot): number | null => {
    const values = all.map((one) => one[key]).filter((value) => value !== null);
    return values.length === 0 ? null : median(values);
  };
  return { wall: of("wall") ?? Number.NaN, cpu: of("cpu"), resident: of("resident"), peak: of("peak"), all };
}

/** Starts a command and waits for the prompt. */
function toPrompt(command: string, args: readonly string[]): Promise<Boot> {
  const from = performance.now();
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
  return new Promise((resolve, reject) => {
    let output = "";
    let result: Boot | null = null;
    const limit = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
    const heard = (bytes: Buffer): void => {
      output = (output + bytes.toString("latin1")).slice(-2000);
      if (result !== null || !output.includes(PROMPT)) return;
      result = { wall: (performance.now() - from) / 1000, ...ofProcess(child) };
      child.kill("SIGKILL");
    };
    child.stdout.on("data", heard);
    child.stderr.on("data", heard);
    child.on("error", reject);
    child.on("close", () => {
      clearTimeout(limit);
      if (result !== null) resolve(result);
      else reject(new Error(`${command} came to no prompt:\n${output}`));
    });
  });
}

/** CPU time and memory of a process, from /proc (Linux). */
function ofProcess({ pid }: ChildProcess): Omit<Boot, "wall"> {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // After the command's name in parentheses: state is field 3, utime and stime 14 and 15, in hundredths of a second.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const status = readFileSync(`/proc/${pid}/status`, "latin1");
    const mib = (key: string): number => Number(new RegExp(`^${key}:\\s+(\\d+) kB`, "m").exec(status)?.[1]) / 1024;
    return { cpu: (Number(fields[11]) + Number(fields[12])) / 100, resident: mib("VmRSS"), peak: mib("VmHWM") };
  } catch {
    return { cpu: null, resident: null, peak: null };
  }
}
