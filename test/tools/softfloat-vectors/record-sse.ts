/**
 * Records what this host's CPU does with SSE floating-point instructions, as test/fixtures/sse/vectors.txt:
 *   node --conditions=hookvisor-source --import tsx test/tools/softfloat-vectors/record-sse.ts
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { hostCpu } from "./host.ts";
import { Random } from "./random.ts";
import { allSseForms, formatSseVector, makeSseCase, sseHostOutcome, sseRequest } from "./sse-cases.ts";

const SEED = 128;
const CASES = 45;

const host = hostCpu();
if (host === undefined) throw new Error("no x86-64 Linux host with a C compiler");
const random = new Random(SEED);
const cases = allSseForms().flatMap((form) => Array.from({ length: CASES }, () => makeSseCase(random, form)));
const answers = host.run(cases.map(sseRequest));
host.close();
const lines = [
  "# opcode(0f) prefix(0 none, 1 66, 2 f3, 3 f2) rexw imm8 mxcsr xmm0 source, then #XM mxcsr result; hexadecimal",
  "# recorded on an x86-64 CPU by test/tools/softfloat-vectors/record-sse.ts",
];
cases.forEach((test, index) => {
  const answer = answers[index];
  if (answer !== undefined) lines.push(formatSseVector(test, sseHostOutcome(test, answer)));
});
const folder = fileURLToPath(new URL("../../fixtures/sse/", import.meta.url));
mkdirSync(folder, { recursive: true });
writeFileSync(`${folder}vectors.txt`, `${lines.join("\n")}\n`);
