/**
 * Records what this host's CPU does with every x87 instruction, as test/fixtures/x87/vectors.txt:
 *   node --conditions=hookvisor-source --import tsx test/tools/softfloat-vectors/record-x87.ts
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { hostCpu } from "./host.ts";
import { Random } from "./random.ts";
import { allInstructions, formatX87Vector, makeX87Case, x87HostOutcome, x87Request } from "./x87-cases.ts";

const SEED = 87;

const host = hostCpu();
if (host === undefined) throw new Error("no x86-64 Linux host with a C compiler");
const random = new Random(SEED);
// Forms that differ in the register alone have one case each.
const cases = allInstructions().flatMap(({ opcode, modrm }) => {
  const times = modrm < 0xc0 || (opcode === 0xd9 && modrm >= 0xe0) ? 8 : 1;
  return Array.from({ length: times }, () => makeX87Case(random, opcode, modrm));
});
const answers = host.run(cases.map(x87Request));
host.close();
const lines = [
  "# opcode modrm fcw fsw ftw rflags st0..st7 memory; then signal fcw fsw ftw ax rflags st0..st7 memory (= unchanged)",
  "# recorded on an x86-64 CPU by test/tools/softfloat-vectors/record-x87.ts",
];
cases.forEach((test, index) => {
  const answer = answers[index];
  if (answer !== undefined) lines.push(formatX87Vector(test, x87HostOutcome(answer)));
});
const folder = fileURLToPath(new URL("../../fixtures/x87/", import.meta.url));
mkdirSync(folder, { recursive: true });
writeFileSync(`${folder}vectors.txt`, `${lines.join("\n")}\n`);
