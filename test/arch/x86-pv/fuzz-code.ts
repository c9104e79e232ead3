/**
 * Hostile PV kernels of random code: bytes, odd prefixes, self-modifying and page-crossing code, wild jumps, hypercalls with wild
 * arguments. Every exception leads to the next of 256 snippets, so that one domain tries many things before it dies.
 *
 * What must hold for each: nothing throws, no plugin is blamed, the audit (audit.ts) finds nothing, another domain's memory is as it was,
 * every frame comes back, and the host is never kept busy for long by one domain.
 */
import type { Domain, Hypervisor } from "hookvisor";
import type { PvBackend } from "../../../arch/x86-pv/backend.ts";
import { setTrap } from "../../../arch/x86-pv/hypercalls.ts";
import { setUserRoot } from "../../../arch/x86-pv/mm/roots.ts";
import { audit } from "./audit.ts";
import { pvDomain, type Random } from "./fuzz-mm.ts";
import { makeElf } from "./make-elf.ts";

const HANDLER = 0x1000;
const COUNTER = 0x3000;
const DATA = 0x4000;
const SNIPPETS = 0x10000;
const COUNT = 256;
const SNIPPET_BYTES = 64;
const STACK = 0xf000;
const BYTES = SNIPPETS + COUNT * SNIPPET_BYTES + 0x1000;

const dword = (value: number): number[] => [value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24];

/** A new stack, then the next snippet. */
const NEXT = [
  ...[0x48, 0xbc, ...dword(STACK), 0, 0, 0, 0], // mov rsp, STACK
  0xfc, // cld
  ...[0xff, 0x04, 0x25, ...dword(COUNTER)], // inc dword [COUNTER]
  ...[0x8b, 0x04, 0x25, ...dword(COUNTER)], // mov eax, [COUNTER]
  ...[0x25, ...dword(COUNT - 1)], // and eax, COUNT - 1
  ...[0xc1, 0xe0, 6], // shl eax, 6
  ...[0x05, ...dword(SNIPPETS)], // add eax, SNIPPETS
  ...[0xff, 0xe0], // jmp rax
];

/** Values that are worth having in a register. */
function value(r: Random): [number, number] {
  switch (r.below(10)) {
    case 0:
      return [r.bits(), r.bits()];
    case 1:
      return [r.below(9), 0];
    case 2:
      return [SNIPPETS + r.below(COUNT * SNIPPET_BYTES), 0];
    case 3:
      return r.of([
        [0xffffffff, 0xffffffff],
        [0, 0x8000],
        [0xfffffff8, 0x7fff],
        [0xffffffff, 0x7fff],
        [0, 0xffff8000],
        [0x10, 0xffff8000],
        [0xfffffff0, 0xffffffff],
        [0, 0x80000000],
        [0xffffffff, 0],
      ] as [number, number][]);
    case 4:
      return [(r.below(BYTES >> 12) << 12) + r.of([4095, 4094, 4088, 4080, 0]), 0];
    case 5:
      return [STACK - r.below(128), 0];
    case 6:
      return [r.below(0x8000), 0];
    default:
      return [DATA + r.below(0x2000), 0];
  }
}

function load(r: Random, register: number): number[] {
  const [lo, hi] = value(r);
  return [register < 8 ? 0x48 : 0x49, 0xb8 | (register & 7), ...dword(lo), ...dword(hi)];
}

/** A hypercall's number; iret, which ends most kernels, less often. */
function number(r: Random): number {
  const n = r.below(50);
  return n === 23 && !r.one(4) ? 1 : n;
}

const PREFIXES = [0x66, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67, 0x26];

function instruction(r: Random): number[] {
  const bytes: number[] = [];
  while (r.one(3)) bytes.push(r.of(PREFIXES));
  if (r.one(2)) bytes.push(0x40 | r.below(16));
  const any = (n: number): number[] => Array.from({ length: n }, () => r.below(256));
  switch (r.below(14)) {
    case 0:
      return any(1 + r.below(15));
    case 1:
      return [
        ...load(r, 7),
        ...load(r, 6),
        ...load(r, 1),
        ...(r.one(3) ? [0xfd] : []),
        ...bytes,
        r.of([0xf3, 0xf2]),
        r.of([0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0x6c, 0x6d, 0x6e, 0x6f]),
      ];
    case 2:
      // a hypercall
      return [
        ...load(r, 7),
        ...load(r, 6),
        ...(r.one(2) ? load(r, 2) : []),
        0xb8,
        ...dword(r.one(20) ? r.bits() : number(r)),
        0x0f,
        0x05,
      ];
    case 3:
      return [
        0xb8,
        ...dword(number(r)),
        0xbf,
        ...dword(r.below(24)),
        ...load(r, 6),
        0xba,
        ...dword(r.below(4)),
        0x0f,
        0x05,
      ];
    case 4: {
      // an interrupt return, or a far one
      const words = Array.from({ length: 5 }, () => [...load(r, 0), 0x50]);
      return [...words.flat(), r.of([0x48, 0x90, 0x66]), r.of([0xcf, 0xcb, 0xca, 0xcf])];
    }
    case 5:
      return [...load(r, r.of([0, 1, 2, 3, 5, 6, 7, 8, 13])), ...bytes, 0x0f, ...any(6)];
    case 6:
      return [...load(r, 0), ...bytes, 0xd8 + r.below(8), ...any(2)];
    case 7:
      return [...load(r, 0), 0xff, r.of([0xe0, 0xd0, 0x20, 0x10, 0x28, 0x18, 0x30])];
    case 8:
      // a store at the snippets: self-modifying code
      return [
        0x48,
        0xbb,
        ...dword(SNIPPETS + r.below(COUNT * SNIPPET_BYTES)),
        0,
        0,
        0,
        0,
        ...bytes,
        r.of([0x88, 0x89, 0x01, 0x31, 0x87, 0xff]),
        0x03,
        r.of([0xeb, 0x74, 0x90]),
        r.below(256),
      ];
    case 9:
      return [
        ...(r.one(8) ? load(r, 4) : load(r, 0)),
        ...bytes,
        r.of([0x50, 0x58, 0xc3, 0xc2, 0xc9, 0xe8, 0x9c, 0x9d, 0x6a]),
        ...any(2),
      ];
    case 10:
      return [
        ...load(r, 0),
        ...load(r, 1),
        ...load(r, 2),
        0x0f,
        r.of([0x30, 0x32, 0xa2, 0x31, 0x22, 0x20, 0x23, 0x21, 0x01, 0x00, 0x06, 0x09, 0xc7, 0xae]),
        ...any(2),
      ];
    case 11:
      return [0x66, 0xb8, r.below(256), r.of([0, 0xe0]), 0x8e, 0xc0 | (r.below(6) << 3)];
    case 12:
      return [r.of([0x70, 0x75, 0xeb, 0xe2, 0xe3]), r.below(256), ...any(2)];
    default:
      return [...load(r, 0), ...load(r, 3), ...bytes, r.below(256), ...any(4)];
  }
}

/** A kernel image of random snippets. */
export function randomKernel(r: Random): Uint8Array {
  const bytes = new Uint8Array(BYTES).fill(0xcc);
  bytes.set(NEXT, 0);
  bytes.set(NEXT, HANDLER);
  for (let i = DATA; i < SNIPPETS - 0x1000; i++) if (r.one(3)) bytes[i] = r.below(256);
  for (let i = 0; i < COUNT; i++) {
    const code: number[] = [];
    while (code.length < SNIPPET_BYTES - 8) code.push(...instruction(r));
    const room = r.one(4) ? code.length : SNIPPET_BYTES;
    bytes.set(code.slice(0, Math.min(room, BYTES - SNIPPETS - i * SNIPPET_BYTES)), SNIPPETS + i * SNIPPET_BYTES);
  }
  return makeElf({ loads: [{ physical: 0n, bytes }], entry: 0n });
}

/** The image with some of its bytes changed: now and then anywhere, else in the code before its Xen notes, so that it still loads. */
export function mutated(r: Random, image: Uint8Array): Uint8Array {
  const bytes = image.slice();
  const notes = Buffer.from(bytes.buffer).indexOf("Xen\0");
  const [from, to] = r.one(6) || notes < 0x1100 ? [0, bytes.length] : [0x1000, notes - 12];
  for (let i = 1 + r.below(40); i > 0; i--) {
    const at = from + r.below(to - from);
    bytes[at] = r.one(2) ? r.below(256) : bytes[at]! ^ (1 << r.below(8));
  }
  return r.one(20) ? bytes.subarray(0, r.below(bytes.length)) : bytes;
}

/** Every exception, event and syscall leads on to the next snippet, but for a few that lead anywhere. */
function prepare(domain: Domain, r: Random): void {
  const backend = domain.arch as PvBackend;
  for (const vcpu of domain.vcpus) {
    const v = backend.stateOf(vcpu);
    for (let vector = 0; vector < 256; vector++) {
      const [lo, hi] = r.one(60) ? value(r) : [HANDLER, 0];
      setTrap(v, vector, r.of([0, 1, 3, 4, 7]), r.one(20) ? r.below(0x10000) : 0xe033, lo, hi);
    }
    for (const callback of [v.event, v.failsafe, v.syscall]) {
      [callback.lo, callback.hi] = r.one(10) ? value(r) : [HANDLER, 0];
      callback.mask = r.one(2);
    }
    if (r.one(2) && v.kernelRoot !== 0) setUserRoot(v, v.kernelRoot, false);
    v.kernelSpLo = STACK;
    domain.vmAssist = r.below(64);
  }
}

/** What one hostile kernel did to the machine. */
export interface Outcome {
  readonly milliseconds: number;
  readonly end: string;
}

/** Sum over the memory of a domain that is paused: all its frames, and their numbers. */
export function checksum(hypervisor: Hypervisor, domain: Domain): number {
  const { frames } = hypervisor.machine;
  const words = new Uint32Array(frames.memory.buffer);
  let sum = 0;
  for (let mfn = 0; mfn < frames.count; mfn++) {
    if (frames.owner[mfn] !== domain.id) continue;
    sum = (Math.imul(sum, 31) + mfn) | 0;
    for (let i = mfn * 1024; i < mfn * 1024 + 1024; i++) sum = (Math.imul(sum, 33) ^ words[i]!) | 0;
  }
  return sum;
}

/** Runs one hostile kernel for `time` virtual nanoseconds and destroys it; throws when anything but it has suffered. */
export async function attackByCode(
  hypervisor: Hypervisor,
  image: Uint8Array,
  r: Random,
  time: number,
  memoryMiB = 5,
): Promise<Outcome> {
  const { machine } = hypervisor;
  const lines: string[] = [];
  machine.onLog = (line) => lines.push(line);
  const start = performance.now();
  const domain = await pvDomain(hypervisor, "hostile", image, 1 + r.below(2), memoryMiB);
  domain.onConsoleWrite = () => {};
  prepare(domain, r);
  hypervisor.unpause(domain);
  await hypervisor.run({ until: machine.now + time, done: () => domain.shutdownReason !== null });
  const wrong = audit(machine, domain.arch as PvBackend).filter(
    (line) => !line.includes("references,") && !/ of type /.test(line),
  );
  await hypervisor.destroyDomain(domain);
  const milliseconds = performance.now() - start;
  wrong.push(...lines.filter((line) => /^destroying|plugin/.test(line)));
  if (wrong.length > 0) throw new Error(`${wrong.slice(0, 8).join("\n")}\n${lines.slice(-20).join("\n")}`);
  return { milliseconds, end: domain.crashMessage?.split("\n")[0] ?? String(domain.shutdownReason) };
}
