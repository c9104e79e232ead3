/**
 * Records what this host's CPU answers to the cases of cases.ts, as test/fixtures/softfloat/vectors.txt:
 *   node --conditions=hookvisor-source --import tsx test/tools/softfloat-vectors/record.ts
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { formatVector, hostOutcome, hostRequest, makeCases, OPERATIONS } from "./cases.ts";
import { hostCpu } from "./host.ts";

const CASES = 110;
const SEED = 2024;

const host = hostCpu();
if (host === undefined) throw new Error("no x86-64 Linux host with a C compiler");
const lines = [
  "# op format control(mxcsr or x87 control word) operands results flags rounded-up; all hexadecimal",
  "# recorded on an x86-64 CPU by test/tools/softfloat-vectors/record.ts",
];
for (const op of Object.keys(OPERATIONS)) {
  const cases = makeCases(op, SEED, CASES);
  const answers = host.run(cases.map(hostRequest));
  cases.forEach((test, index) => {
    const answer = answers[index];
    if (answer !== undefined && answer.signal === 0) lines.push(formatVector(test, hostOutcome(test, answer)));
  });
}
host.close();
const folder = fileURLToPath(new URL("../../fixtures/softfloat/", import.meta.url));
mkdirSync(folder, { recursive: true });
writeFileSync(`${folder}vectors.txt`, `${lines.join("\n")}\n`);
