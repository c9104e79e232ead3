/**
 * The port of 64-bit PV guests passes the conformance kit that every port runs, in both tiers.
 *
 * The guests are assembled here, a few instructions each. They are linked to address 0; the builder maps their first 4 MiB, all of it writable
 * but for page tables, and nothing behind it.
 */
import { ABI_X86_64, type Domain, definePlugin, type Plugin, xen } from "hookvisor";
import { describe, expect, test } from "vitest";
import { PvBackend } from "../../../arch/x86-pv/backend.ts";
import { addPvHypercalls } from "../../../arch/x86-pv/hypercalls.ts";
import plugin from "../../../arch/x86-pv/plugin.ts";
import { type ArchUnderTest, archSuite } from "../../conformance/arch.ts";
import { makeElf } from "./make-elf.ts";

const { __HYPERVISOR: H } = xen;
/** What the loader maps. */
const MAPPED = 0x40_0000;
/** Variables, within the kernel's memory and beside its code. */
const DATA = 0x1_0000;
const MEMORY = 0x4_0000n;
/** Where a guest maps its shared info page: spare room of the first mapping. */
const SHARED = 0x3f_0000;

const le = (value: number, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => Math.floor(value / 2 ** (8 * i)) & 255);

/** mov register, imm64: rax, rdi, rsi, rdx, r10, r8, r9 as hypercalls take them. */
const MOV = { rax: [0x48, 0xb8], rdi: [0x48, 0xbf], rsi: [0x48, 0xbe], rdx: [0x48, 0xba] } as const;
const ARGUMENTS = [MOV.rdi, MOV.rsi, MOV.rdx, [0x49, 0xba], [0x49, 0xb8], [0x49, 0xb9]] as const;
const SYSCALL = [0x0f, 0x05];
const load = (register: readonly number[], value: number): number[] => [...register, ...le(value, 8)];

function hypercall(nr: number, args: readonly number[]): number[] {
  return [...args.flatMap((arg, i) => load(ARGUMENTS[i]!, arg)), ...load(MOV.rax, nr), ...SYSCALL];
}

function kernel(code: readonly number[]): Uint8Array {
  return makeElf({ loads: [{ physical: 0n, bytes: Uint8Array.from(code), memorySize: MEMORY }], entry: 0n });
}

/** Fills memory with what a small generator makes of its registers, with calls, string moves and flags. */
const COMPUTE = [
  ...[0xbb, ...le(12345, 4)], // mov ebx, 12345
  ...[0xbd, ...le(DATA, 4)], // mov ebp, DATA
  // next:
  ...[0x48, 0x69, 0xdb, ...le(1103515245, 4)], // imul rbx, rbx, 1103515245
  ...[0x48, 0x81, 0xc3, ...le(12345, 4)], // add rbx, 12345
  ...[0x48, 0x11, 0xd8], // adc rax, rbx
  ...[0x89, 0xd9, 0x81, 0xe1, ...le(0xfff8, 4)], // mov ecx, ebx; and ecx, 0xfff8
  ...[0x48, 0x31, 0x44, 0x0d, 0], // xor [rbp + rcx], rax
  ...[0x0f, 0xb6, 0x54, 0x0d, 3], // movzx edx, byte [rbp + rcx + 3]
  ...[0x48, 0x0f, 0xc8], // bswap rax
  ...[0xe8, ...le(19, 4)], // call routine
  ...[0x8d, 0x74, 0x0d, 0], // lea esi, [rbp + rcx]
  ...[0x8d, 0xbd, ...le(0x1_0000, 4)], // lea edi, [rbp + 0x10000]
  ...[0xb9, 9, 0, 0, 0, 0xf3, 0xa4], // mov ecx, 9; rep movsb
];
COMPUTE.push(0xeb, 10 - (COMPUTE.length + 2)); // jmp next
// routine: btc r9, rdx; setc r8b; add r10, r9; ret
COMPUTE.push(0x49, 0x0f, 0xbb, 0xd1, 0x41, 0x0f, 0x92, 0xc0, 0x4d, 0x01, 0xca, 0xc3);

/** The handler of upcalls is at this address; it counts at DATA. */
const HANDLER = 0x100;

function counting(): number[] {
  const code = [
    ...[0x48, 0x8b, 0x76, xen.start_info.at(ABI_X86_64).fields.shared_info.offset], // mov rsi, [rsi + shared_info]
    ...[0x48, 0x83, 0xce, 0x63], // or rsi, present, writable, accessed, dirty
    ...load(MOV.rdi, SHARED),
    ...load(MOV.rdx, xen.UVMF.INVLPG),
    ...load(MOV.rax, H.update_va_mapping),
    ...SYSCALL,
    ...hypercall(H.set_callbacks, [HANDLER, HANDLER, HANDLER]),
    ...[0xc6, 0x04, 0x25, ...le(SHARED + 1, 4), 0], // mov byte [evtchn_upcall_mask], 0
    ...[0x48, 0xff, 0xc3, 0xeb, 0xfb], // inc rbx; jmp back
  ];
  while (code.length < HANDLER) code.push(0x90);
  return code.concat([
    ...[0xff, 0x04, 0x25, ...le(DATA, 4)], // inc dword [DATA]
    ...[0xc6, 0x04, 0x25, ...le(SHARED, 4), 0], // mov byte [evtchn_upcall_pending], 0
    ...[0x48, 0xc7, 0x04, 0x25, ...le(SHARED + 8, 4), 0, 0, 0, 0], // mov qword [evtchn_pending_sel], 0
    ...[0x59, 0x41, 0x5b], // pop rcx; pop r11
    ...[0x6a, 0, 0x51, 0x41, 0x53, 0x50], // push 0 (flags); push rcx; push r11; push rax
    ...[0xb8, ...le(H.iret, 4), ...SYSCALL],
  ]);
}

/** Makes each call in turn, keeps its answer at DATA, and powers off. */
function calling(calls: readonly { readonly nr: number; readonly args: readonly number[] }[]): number[] {
  const code = calls.flatMap(({ nr, args }, i) => [
    ...hypercall(nr, args),
    ...[0x48, 0x89, 0x04, 0x25, ...le(DATA + 8 * i, 4)], // mov [answer], rax
  ]);
  // What is at DATA + 0x8000 is zero: SHUTDOWN_poweroff.
  return [...code, ...hypercall(H.sched_op, [xen.SCHEDOP.shutdown, DATA + 0x8000])];
}

function word(domain: Domain, address: number): number {
  const bytes = new Uint8Array(8);
  if (!domain.arch!.copyFromGuest(domain.vcpus[0]!, address, 0, bytes, 8)) throw new Error(`no memory at ${address}`);
  return Number(new DataView(bytes.buffer).getBigInt64(0, true));
}

const compute = kernel(COMPUTE);
/** ELF header, the headers of the segment and of the notes. */
const HEADERS = 64 + 2 * 56;

const port = {
  type: "pv",
  compute,
  code: [HEADERS, HEADERS + COMPUTE.length],
  upcalls: { image: kernel(counting()), count: (domain) => word(domain, DATA) },
  edge: () => ({ lo: MAPPED - 0x8000, hi: 0, length: 0x8000 }),
  hypercalls: (calls) => ({
    image: kernel(calling(calls)),
    results: (domain) => calls.map((_, i) => word(domain, DATA + 8 * i)),
  }),
  badPointer: 0x7000_0000,
  memoryMiB: 5,
  machineMiB: 16,
} satisfies Partial<ArchUnderTest>;

/** The plugin, with the slow reference interpreter instead of the fast one. */
const oracle = (): Plugin =>
  definePlugin({
    name: "x86-pv-oracle",
    api: "^1.0.0",
    apply({ hooks }) {
      let backend: PvBackend | undefined;
      hooks.arch.for("pv").tap("x86-pv-oracle", (host) => {
        backend ??= new PvBackend(host, { tier: "oracle" });
        return backend;
      });
      hooks.hypercalls.tap("x86-pv-oracle", (table) => {
        if (backend !== undefined) addPvHypercalls(table, backend);
      });
    },
  });

const framework = { describe, test, check: (ok: boolean, message: string) => expect(ok, message).toBe(true) };
archSuite(framework, { ...port, name: "x86-pv", makePlugin: () => plugin, runs: 8 });
archSuite(framework, { ...port, name: "x86-pv, oracle", makePlugin: oracle, instructions: 1500, runs: 3 });
