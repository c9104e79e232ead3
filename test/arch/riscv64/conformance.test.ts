/** The RISC-V port passes the conformance kit that every port runs, in both tiers. */
import { type Domain, xen } from "hookvisor";
import { describe, expect, test } from "vitest";
import { EXTENSION } from "../../../arch/riscv64/sbi.ts";
import { type ArchUnderTest, archSuite } from "../../conformance/arch.ts";
import { BASE, HEADERS, Program, REG, riscvPlugin } from "./guest.ts";

const { __HYPERVISOR: H } = xen;
const { t0, t1, t2 } = REG;
const MEMORY_MIB = 5;
/** Variables, beside the code. */
const DATA = BASE + 0x2_0000;
/** Where the shared info page is put: as on Arm, outside of RAM. */
const SHARED = 0x3a00_0000;
const CSR = { sstatus: 0x100, sie: 0x104, stvec: 0x105 } as const;

/** Fills memory with what a small generator makes of its registers, with calls, branches, atomics and floating point. */
function compute(): Program {
  const p = new Program();
  p.li(t0, 12345).li(t1, 1103515245).li(t2, DATA).li(28, 0xfff8);
  // FS: initial
  p.li(29, 0x2000).put("csrrs", { rs1: 29, imm: CSR.sstatus });
  p.label("next").put("mul", { rd: t0, rs1: t0, rs2: t1 }).put("addi", { rd: t0, rs1: t0, imm: 1234 });
  p.put("and", { rd: 29, rs1: t0, rs2: 28 }).put("add", { rd: 29, rs1: 29, rs2: t2 });
  p.put("ld", { rd: 30, rs1: 29 }).put("xor", { rd: 30, rs1: 30, rs2: t0 }).put("sd", { rs1: 29, rs2: 30 });
  p.put("amoadd.w", { rd: 31, rs1: 29, rs2: t0 }).put("lbu", { rd: 31, rs1: 29, imm: 3 });
  p.put("fcvt.d.l", { rd: 1, rs1: 30 }).put("fadd.d", { rd: 2, rs1: 2, rs2: 1 }).put("fsd", { rs1: 29, rs2: 2 });
  p.put("andi", { rd: 31, rs1: 31, imm: 1 }).branch("beq", 31, 0, "next").jump("next");
  return p;
}

/** Registers an upcall handler, unmasks events and computes for ever. */
function counting(): Program {
  const p = new Program();
  const structure = DATA + 0x100;
  // struct xen_add_to_physmap: domid, size; space; idx; gpfn
  p.li(t0, 0x7ff0).store(t0, structure).li(t0, xen.XENMAPSPACE.shared_info);
  p.li(t1, structure + 4).put("sw", { rs1: t1, rs2: t0 });
  p.store(0, structure + 8)
    .li(t0, SHARED / 4096)
    .store(t0, structure + 16);
  p.hypercall(H.memory_op, [xen.XENMEM.add_to_physmap, structure]);
  p.address(t0, "handler").put("csrrw", { rs1: t0, imm: CSR.stvec });
  p.li(t0, 1 << 16).put("csrrs", { rs1: t0, imm: CSR.sie });
  p.put("csrrsi", { rs1: 2, imm: CSR.sstatus });
  p.label("spin").put("addi", { rd: 28, rs1: 28, imm: 1 }).jump("spin");
  // The handler clears what is pending last.
  p.label("handler").li(t0, DATA).put("ld", { rd: t1, rs1: t0 }).put("addi", { rd: t1, rs1: t1, imm: 1 });
  p.put("sd", { rs1: t0, rs2: t1 }).li(t0, SHARED).put("sd", { rs1: t0, imm: 8 }).put("sb", { rs1: t0 });
  return p.put("sret");
}

function calling(calls: readonly { readonly nr: number; readonly args: readonly number[] }[]): Program {
  const p = new Program();
  for (const [i, { nr, args }] of calls.entries()) p.hypercall(nr, args).store(REG.a0, DATA + 8 * i);
  return p.ecall(EXTENSION.SRST, 0, [0, 0]);
}

function word(domain: Domain, address: number): number {
  const bytes = new Uint8Array(8);
  if (!domain.arch!.copyFromGuest(domain.vcpus[0]!, address, 0, bytes, 8)) throw new Error(`no memory at ${address}`);
  return Number(new DataView(bytes.buffer).getBigInt64(0, true));
}

const program = compute();
const port = {
  type: "riscv64",
  compute: program.image(),
  code: [HEADERS, HEADERS + program.code().length],
  upcalls: { image: counting().image(), count: (domain) => word(domain, DATA) },
  edge: () => ({ lo: BASE + MEMORY_MIB * 2 ** 20 - 0x8000, hi: 0, length: 0x8000 }),
  hypercalls: (calls) => ({
    image: calling(calls).image(),
    results: (domain) => calls.map((_, i) => word(domain, DATA + 8 * i)),
  }),
  badPointer: 0x7000_0000,
  memoryMiB: MEMORY_MIB,
  machineMiB: 16,
} satisfies Partial<ArchUnderTest>;

const framework = { describe, test, check: (ok: boolean, message: string) => expect(ok, message).toBe(true) };
archSuite(framework, { ...port, name: "riscv64", makePlugin: () => riscvPlugin(), runs: 8 });
archSuite(framework, {
  ...port,
  name: "riscv64, oracle",
  makePlugin: () => riscvPlugin({ tier: "oracle" }),
  instructions: 1500,
  runs: 3,
});
