/**
 * Records test/fixtures/riscv/vectors.txt: short sequences around every unprivileged instruction of RV64GC, as qemu-riscv64 does them.
 * Usage: node --conditions=hookvisor-source --import tsx test/tools/riscv-vectors.ts
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fetchDebianFile } from "../../plugins/lib-debian/index.ts";
import { makeCase, Random, SUBJECTS } from "../arch/riscv64/generate.ts";
import { QEMU_RISCV, qemuCpu } from "../arch/riscv64/qemu.ts";
import { encodeLine } from "../arch/riscv64/vectors.ts";

async function record(): Promise<void> {
  const qemu = qemuCpu(await fetchDebianFile(QEMU_RISCV));
  const random = new Random(20265);
  const plan = SUBJECTS.flatMap((subject) =>
    Array.from({ length: /^f[a-z]+.*\.[sd]/.test(subject) ? 16 : 6 }, () => ({ subject, seed: random.u32() })),
  );
  const outcomes = qemu.run(plan.map(({ subject, seed }) => makeCase(seed, subject)));
  const lines = plan.map(({ subject, seed }, n) => encodeLine(subject, seed, outcomes[n] ?? new Uint8Array()));
  writeFileSync(join(import.meta.dirname, "../fixtures/riscv/vectors.txt"), `${lines.join("\n")}\n`);
  console.log(`${lines.length} cases`);
}

await record();
