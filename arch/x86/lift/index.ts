/**
 * The lifter: guest bytes of one page to one block of IR.
 *
 * A block ends at a control transfer (but a short jump forwards within the page), a system instruction, a repeated string instruction, the engine's limit, or the page's end. An
 * instruction that cannot be decoded becomes the exception it raises; what lies before it runs first.
 */
import type { Lift } from "../../translate/ir.ts";
import { LIFT_DONE, LIFT_TRUNCATED, type OpSet } from "../../translate/ir.ts";
import { DECODE_MORE, DECODE_OK, DECODE_TOO_LONG, decode, Instruction, MAX_LENGTH } from "../decode.ts";
import { X86_OPSET } from "../opset.ts";
import { MODE_32, MODE_64, MODE_NO_FPU, MODE_SIZE, VECTOR_GP } from "../state.ts";
import { X86_TABLE } from "../table.ts";
import { FLAGS_UNKNOWN, LiftContext, type X86Entry } from "./context.ts";
import { jmpJ } from "./control.ts";

/** Bytes that a jump within a block may skip: a store into them ends the block too. */
const MAX_SKIPPED = 128;

/** Makes the lifter of an engine; the engine's op numbers must be those of opset.ts. */
export function makeLift(ops: OpSet): Lift {
  if (ops.list.length !== X86_OPSET.list.length || ops.id("x.raise") !== X86_OPSET.id("x.raise")) {
    throw new Error("the engine's operations are not those of the x86 library");
  }
  const x = new LiftContext();
  const i = new Instruction<X86Entry>();
  return (source, builder) => {
    x.b = builder;
    x.flags = FLAGS_UNKNOWN;
    const size = source.mode & MODE_SIZE;
    i.bits = size === MODE_64 ? 64 : size === MODE_32 ? 32 : 16;
    x.fpuDisabled = (source.mode & MODE_NO_FPU) !== 0;
    let at = source.start;
    let pcLo = source.pcLo | 0;
    let pcHi = source.pcHi | 0;
    for (let n = 0; n < source.maxInstructions; n++) {
      const result = decode(X86_TABLE, source.bytes, at, source.end, i);
      if (result === DECODE_MORE) {
        if (n === 0) return LIFT_TRUNCATED;
        break;
      }
      let length = result === DECODE_OK ? i.length : result === DECODE_TOO_LONG ? MAX_LENGTH : 1;
      // A short jump forwards is an instruction that also skips bytes: the block goes on where it lands.
      const follows =
        result === DECODE_OK &&
        i.entry!.lift === jmpJ &&
        i.bits === 64 &&
        n + 1 < source.maxInstructions &&
        i.immLo >= 0 &&
        i.immLo <= MAX_SKIPPED &&
        at + length + i.immLo < source.end;
      if (follows) length += i.immLo;
      x.start();
      builder.instruction(pcLo, pcHi, length);
      x.pcLo = pcLo;
      x.pcHi = pcHi;
      const sum = (pcLo >>> 0) + length;
      x.nextLo = sum | 0;
      x.nextHi = (pcHi + (sum > 0xffffffff ? 1 : 0)) | 0;
      const lift = result === DECODE_OK ? i.entry!.lift : null;
      if (follows) {
        pcLo = x.nextLo;
        pcHi = x.nextHi;
        at += length;
        continue;
      }
      if (lift === null) {
        if (result === DECODE_TOO_LONG) x.raise(VECTOR_GP, 0);
        else x.undefined();
        return LIFT_DONE;
      }
      lift(x, i);
      if (builder.ended) return LIFT_DONE;
      pcLo = x.nextLo;
      pcHi = x.nextHi;
      at += length;
      if (at >= source.end) break;
    }
    builder.fallThrough(pcLo, pcHi);
    return LIFT_DONE;
  };
}
