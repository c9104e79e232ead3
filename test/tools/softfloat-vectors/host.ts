/**
 * The host's own CPU as a reference for floating-point instructions: builds host.c and runs requests through it.
 *
 * `hostCpu()` is undefined where there is no x86-64 Linux host with a C compiler; tests then say that they were
 * skipped and use recorded vectors alone.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The state that an instruction runs in, or leaves behind. Values are raw bits. */
export interface HostState {
  fcw: number;
  fsw: number;
  /** Abridged tags: a bit per physical register, set when it is in use. */
  ftw: number;
  mxcsr: number;
  /** ST0..ST7, 80 bits each. */
  st: bigint[];
  xmm0: bigint;
  xmm1: bigint;
  memory: Uint8Array;
  rax: bigint;
  rflags: number;
}

export interface HostRequest extends HostState {
  /** Machine code; rdi points to the memory operand. */
  code: Uint8Array;
}

export interface HostAnswer extends HostState {
  /** 0, or the number of the signal that ended the code (8: SIGFPE). */
  signal: number;
}

export interface HostCpu {
  run(requests: readonly HostRequest[]): HostAnswer[];
}

/** A state with everything masked and empty; override what differs. */
export function hostState(overrides: Partial<HostState> = {}): HostState {
  return {
    fcw: 0x37f,
    fsw: 0,
    ftw: 0,
    mxcsr: 0x1f80,
    st: Array.from({ length: 8 }, () => 0n),
    xmm0: 0n,
    xmm1: 0n,
    memory: new Uint8Array(0),
    rax: 0n,
    rflags: 0x202,
    ...overrides,
  };
}

/** A number as `length` bytes, least significant first, in hexadecimal. */
export function littleEndian(value: bigint, length: number): string {
  const digits = BigInt.asUintN(length * 8, value)
    .toString(16)
    .padStart(length * 2, "0");
  return (digits.match(/../g) ?? []).reverse().join("");
}

export function fromLittleEndian(text: string): bigint {
  return text === "" ? 0n : BigInt(`0x${(text.match(/../g) ?? []).reverse().join("")}`);
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

export function fromHex(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, "hex"));
}

function requestLine(request: HostRequest): string {
  return [
    toHex(request.code),
    request.fcw.toString(16),
    request.fsw.toString(16),
    request.ftw.toString(16),
    request.mxcsr.toString(16),
    request.st.map((value) => littleEndian(value, 10)).join(""),
    littleEndian(request.xmm0, 16) + littleEndian(request.xmm1, 16),
    request.memory.length === 0 ? "-" : toHex(request.memory),
    request.rax.toString(16),
    request.rflags.toString(16),
  ].join(" ");
}

function answerOf(line: string): HostAnswer {
  const fields = line.split(" ");
  const field = (index: number): string => {
    const text = fields[index];
    if (text === undefined) throw new Error(`host: short answer: ${line}`);
    return text;
  };
  const stack = field(5);
  const xmm = field(6);
  return {
    signal: Number.parseInt(field(0), 16),
    fcw: Number.parseInt(field(1), 16),
    fsw: Number.parseInt(field(2), 16),
    ftw: Number.parseInt(field(3), 16),
    mxcsr: Number.parseInt(field(4), 16),
    st: Array.from({ length: 8 }, (_, index) => fromLittleEndian(stack.slice(index * 20, index * 20 + 20))),
    xmm0: fromLittleEndian(xmm.slice(0, 32)),
    xmm1: fromLittleEndian(xmm.slice(32, 64)),
    memory: field(7) === "-" ? new Uint8Array(0) : fromHex(field(7)),
    rax: BigInt(`0x${field(8)}`),
    rflags: Number.parseInt(field(9), 16),
  };
}

/** Builds the runner; undefined when that is not possible here. `close` removes it. */
export function hostCpu(): (HostCpu & { close(): void }) | undefined {
  if (process.arch !== "x64" || process.platform !== "linux") return undefined;
  const folder = mkdtempSync(join(tmpdir(), "float-host-"));
  const program = join(folder, "host");
  try {
    const source = fileURLToPath(new URL("./host.c", import.meta.url));
    execFileSync("cc", ["-O1", "-mno-red-zone", "-o", program, source], { stdio: ["ignore", "ignore", "pipe"] });
  } catch {
    rmSync(folder, { recursive: true, force: true });
    return undefined;
  }
  return {
    run(requests) {
      const input = `${requests.map(requestLine).join("\n")}\n`;
      const { status, stdout, stderr } = spawnSync(program, { input, encoding: "utf8", maxBuffer: 2 ** 28 });
      if (status !== 0) throw new Error(`host: exit status ${status} ${stderr}`);
      const answers = stdout.trimEnd().split("\n");
      if (answers.length !== requests.length)
        throw new Error(`host: ${answers.length} answers, not ${requests.length}`);
      return answers.map(answerOf);
    },
    close() {
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/**
 * Whether this host's CPU is of the vendor whose answers were recorded. Where the architecture leaves room (condition
 * codes that are undefined, what unmasked exceptions leave), x87 units of other vendors differ.
 */
export function recordedVendor(): boolean {
  try {
    return readFileSync("/proc/cpuinfo", "utf8").includes("AuthenticAMD");
  } catch {
    return false;
  }
}
