/**
 * Records what a C compiler makes of Xen's public headers, for every structure and constant of core/abi:
 *   node --conditions=hookvisor-source --import tsx test/tools/abi-layout/generate.ts [include directory]
 * needs gcc, objcopy and Debian's libxen-dev (include directory: /usr/include). It writes test/fixtures/abi/x86_64.json and
 * x86_32.json. Nothing is run on the target: the answers are static initialisers in a section of an object file.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type AbiFacts,
  collect,
  cPath,
  EXPRESSIONS,
  type Place,
  type StructFacts,
  structsOf,
  TARGETS,
  type Target,
} from "./collect.ts";

const HEADERS = [
  "xen.h",
  "event_channel.h",
  "grant_table.h",
  "memory.h",
  "sched.h",
  "vcpu.h",
  "version.h",
  "features.h",
  "physdev.h",
  "callback.h",
  "nmi.h",
  "elfnote.h",
  "hvm/params.h",
  "hvm/hvm_op.h",
  "hvm/hvm_vcpu.h",
  "hvm/hvm_info_table.h",
  "hvm/e820.h",
  "arch-x86/hvm/start_info.h",
  "arch-x86/cpuid.h",
  "io/ring.h",
  "io/blkif.h",
  "io/netif.h",
  "io/console.h",
  "io/xenbus.h",
];

/** Three commands that left the headers' present interface version but that guests still use; with their own old version. */
const OLD_INTERFACE = /^HVMOP_set_(pci_intx_level|isa_irq_level|pci_link_route)$/;

/** Values of C expressions for one target, as 64-bit integers. */
function evaluate(
  expressions: readonly string[],
  target: Target,
  include: string,
  defines: readonly string[],
): bigint[] {
  if (expressions.length === 0) return [];
  const work = mkdtempSync(join(tmpdir(), "abi-layout-"));
  try {
    const source = [
      "#include <stdint.h>",
      "#include <stddef.h>",
      ...HEADERS.map((header) => `#include <xen/${header}>`),
      '__attribute__((section("abi"))) const unsigned long long values[] = {',
      ...expressions.map((expression) => `(unsigned long long)(long long)(${expression}),`),
      "};",
    ].join("\n");
    const [c, object, binary] = [join(work, "abi.c"), join(work, "abi.o"), join(work, "abi.bin")];
    writeFileSync(c, source);
    execFileSync("gcc", [target.flag, "-ffreestanding", "-w", ...defines, "-I", include, "-c", c, "-o", object], {
      stdio: "inherit",
    });
    execFileSync("objcopy", ["-O", "binary", "-j", "abi", object, binary], { stdio: "inherit" });
    const bytes = readFileSync(binary);
    return expressions.map((_, index) => bytes.readBigUInt64LE(index * 8));
  } finally {
    rmSync(work, { recursive: true });
  }
}

function record(target: Target, include: string): AbiFacts {
  const ours = collect(target);
  const types = structsOf(target);
  const questions: string[] = [];
  const ask = (expression: string): void => void questions.push(expression);
  for (const [name, facts] of Object.entries(ours.structs)) {
    const type = types.get(name);
    if (type === undefined) continue;
    const tag = `${type.union ? "union" : "struct"} ${name}`;
    ask(`sizeof(${tag})`);
    ask(`__alignof__(${tag})`);
    const { all } = type.at(target.abi);
    for (const [path, [, size]] of Object.entries(facts.fields)) {
      ask(`offsetof(${tag}, ${cPath(all, path)})`);
      if (size !== null) ask(`sizeof(((${tag} *)0)->${cPath(all, path)})`);
    }
  }
  const names = Object.keys(ours.constants);
  const present = names.filter((name) => !OLD_INTERFACE.test(name));
  const old = names.filter((name) => OLD_INTERFACE.test(name));
  const expressions = Object.keys(EXPRESSIONS);
  const answers = evaluate([...questions, ...present, ...expressions], target, include, ["-D__XEN_TOOLS__"]);
  const oldAnswers = evaluate(old, target, include, ["-D__XEN_INTERFACE_VERSION__=0x00040800"]);

  let next = 0;
  const take = (): number => Number(answers[next++]);
  const structs: Record<string, StructFacts> = {};
  for (const [name, facts] of Object.entries(ours.structs)) {
    const [size, align] = [take(), take()];
    const fields: Record<string, Place> = {};
    for (const [path, place] of Object.entries(facts.fields))
      fields[path] = [take(), place[1] === null ? null : take()];
    structs[name] = { size, align, fields };
  }
  const constants: Record<string, string> = {};
  for (const name of present) constants[name] = `0x${(answers[next++] ?? 0n).toString(16)}`;
  for (const [index, name] of old.entries()) constants[name] = `0x${(oldAnswers[index] ?? 0n).toString(16)}`;
  const values: Record<string, number> = {};
  for (const expression of expressions) values[expression] = take();
  return { structs, constants, expressions: values };
}

const include = process.argv[2] ?? "/usr/include";
const fixtures = join(import.meta.dirname, "../../fixtures/abi");
mkdirSync(fixtures, { recursive: true });
for (const target of TARGETS) {
  writeFileSync(join(fixtures, `${target.name}.json`), `${JSON.stringify(record(target, include), null, 1)}\n`);
}
