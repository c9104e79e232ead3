/** Core control flow: direct and computed jumps, compare-and-branch, skips, helpers, exits. */
import { defineOp, EXIT_LINK, EXIT_STOP, type OpSpec } from "../ir.ts";
import { c32, c64, i64 } from "../wasm/expr.ts";
import { CONDITIONS, conditionOperand } from "./integer.ts";

function branchOps(): OpSpec[] {
  const ops: OpSpec[] = [];
  for (const condition of CONDITIONS) {
    for (const w of [32, 64] as const) {
      for (const immediate of [false, true]) {
        ops.push(
          defineOp({
            name: `b${condition.name}${w}${immediate ? "i" : ""}`,
            terminator: "branch",
            extra: immediate,
            emit: (c) =>
              c.branch(
                w === 64
                  ? condition.wide(c.a.i64, immediate ? c.imm2 : c.b.i64)
                  : condition.narrow(c.a.i32, immediate ? c.lo2 : c.b.i32),
              ),
            evaluate: (o) => {
              const x = conditionOperand(o.get(o.a, w), w, condition.signed);
              const y = conditionOperand(immediate ? o.imm2 : o.get(o.b, w), w, condition.signed);
              o.branch(condition.meaning(x, y));
            },
          }),
        );
      }
    }
  }
  return ops;
}

export const controlOps: readonly OpSpec[] = [
  ...branchOps(),
  defineOp({
    name: "brz",
    terminator: "branch",
    emit: (c) => c.branch(i64.eqz(c.a.i64)),
    evaluate: (o) => o.branch(o.get(o.a, 64) === 0n),
  }),
  defineOp({
    name: "brnz",
    terminator: "branch",
    emit: (c) => c.branch(i64.ne(c.a.i64, c64(0))),
    evaluate: (o) => o.branch(o.get(o.a, 64) !== 0n),
  }),
  defineOp({ name: "jmp", terminator: "jump", emit: (c) => c.jump(), evaluate: (o) => o.jump() }),
  defineOp({
    name: "jmpr",
    terminator: "computed",
    emit: (c) => c.jumpTo(c.a.i64),
    evaluate: (o) => o.jumpTo(o.get(o.a, 64)),
  }),
  // What a direct jump becomes where its target may not be linked: on another page, or across two.
  defineOp({ name: "goto", terminator: "computed", emit: (c) => c.jumpTo(c.imm), evaluate: (o) => o.jumpTo(o.imm) }),
  defineOp({ name: "helper", emit: (c) => c.helper(c.lo), evaluate: (o) => o.helper(o.lo) }),
  defineOp({
    name: "helperEnd",
    terminator: "computed",
    emit: (c) => c.helper(c.lo),
    evaluate: (o) => o.helper(o.lo),
  }),
  defineOp({ name: "exit", terminator: "computed", emit: (c) => c.exit(c.lo), evaluate: (o) => o.exit(o.lo) }),
  defineOp({
    name: "exitAfter",
    terminator: "computed",
    emit: (c) => c.exitAfter(c.lo),
    evaluate: (o) => o.exitAfter(o.lo),
  }),
  defineOp({
    name: "raise",
    terminator: "computed",
    emit: (c) => c.seq(c.cell("exitDetail").set32i(c.lo), c.fault),
    evaluate: (o) => {
      o.set(o.at("exitDetail"), 32, BigInt(o.lo));
      o.fault();
    },
  }),
  defineOp({
    name: "skipz",
    skip: true,
    emit: (c) => c.skip(i64.eqz(c.a.i64)),
    evaluate: (o) => o.skip(o.get(o.a, 64) === 0n),
  }),
  defineOp({
    name: "skipnz",
    skip: true,
    emit: (c) => c.skip(i64.ne(c.a.i64, c64(0))),
    evaluate: (o) => o.skip(o.get(o.a, 64) !== 0n),
  }),
];

/** Ops that the engine itself places: an unlinked direct jump, and the end of a block whose code has changed. */
export const LINK = "engine.link";
export const STOP = "engine.stop";
export const engineOps: readonly OpSpec[] = [
  defineOp({
    name: LINK,
    terminator: "computed",
    emit: (c) => c.leave(c32(EXIT_LINK)),
    evaluate: (o) => o.leave(EXIT_LINK),
  }),
  defineOp({ name: STOP, emit: (c) => c.leave(c32(EXIT_STOP)), evaluate: (o) => o.leave(EXIT_STOP) }),
];
