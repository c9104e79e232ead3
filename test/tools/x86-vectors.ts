/**
 * Records test/fixtures/x86/vectors.txt: every opcode of the table at random sizes and operands, repeated strings and sequences,
 * as the host's own CPU does them. Usage: node --conditions=hookvisor-source --import tsx test/tools/x86-vectors.ts
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { encode, opcodes, Random } from "../arch/x86/generate.ts";
import type { Case } from "../arch/x86/guest.ts";
import { hostCpu } from "../arch/x86/host.ts";
import { encodeLine, inputOf, type Kind } from "../arch/x86/vectors.ts";

const host = hostCpu();
if (host === null) {
  console.error("no x86-64 host with a C compiler: nothing recorded");
  process.exit(1);
}
const random = new Random(20261);
const plan: { kind: Kind; seed: number; input: Case }[] = [];
const add = (kind: Kind, code: readonly number[]) => {
  const seed = random.u32();
  plan.push({ kind, seed, input: inputOf(kind, seed, Uint8Array.from(code)) });
};
for (const opcode of opcodes(() => true)) {
  const simd = (opcode.entry.flags & 512) !== 0;
  const kind: Kind = opcode.entry.name === "x87" ? "f" : simd ? "v" : "i";
  for (let n = 0; n < (kind === "f" ? 40 : 5); n++) {
    const code = encode(random, opcode, simd);
    if (code !== null) add(kind, code);
  }
}
for (let n = 0; n < 200; n++) add("r", []);
for (let n = 0; n < 500; n++) add("s", []);
const outcomes = host.run(plan.map((p) => p.input));
const lines = plan.map((p, n) => encodeLine(p.kind, p.seed, p.input, outcomes[n]!)).sort();
writeFileSync(join(import.meta.dirname, "../fixtures/x86/vectors.txt"), `${lines.join("\n")}\n`);
console.log(`${lines.length} cases`);
