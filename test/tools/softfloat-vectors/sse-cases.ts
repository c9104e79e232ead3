/**
 * Cases for arch/x86/sse-float.ts: one SSE or SSE2 floating-point instruction with random registers and MXCSR, run by the
 * host's CPU and by the library. xmm0 is the destination, xmm1 (or mm1, or rax) the source.
 */
import { F32, F64 } from "../../../arch/translate/softfloat/index.ts";
import { executeSse, type SseOperation, SseUnit, sseFloatOperation } from "../../../arch/x86/sse-float.ts";
import { type HostAnswer, type HostRequest, hostState } from "./host.ts";
import { exponentField, type Random, randomFloat } from "./random.ts";

export interface SseCase {
  readonly opcode: number;
  readonly prefix: 0 | 1 | 2 | 3;
  readonly wide: boolean;
  readonly immediate: number;
  readonly mxcsr: number;
  readonly destination: bigint;
  readonly source: bigint;
}

export interface SseOutcome {
  /** #XM was raised. */
  readonly fault: boolean;
  readonly mxcsr: number;
  /** The destination after it; for comparisons, ZF, PF and CF. */
  readonly result: bigint;
}

const PREFIX_BYTES = [[], [0x66], [0xf3], [0xf2]] as const;
const OPCODES = [
  0x2a, 0x2c, 0x2d, 0x2e, 0x2f, 0x51, 0x52, 0x53, 0x58, 0x59, 0x5a, 0x5b, 0x5c, 0x5d, 0x5e, 0x5f, 0xc2, 0xe6,
] as const;

export interface SseForm {
  readonly opcode: number;
  readonly prefix: 0 | 1 | 2 | 3;
  readonly wide: boolean;
  readonly operation: SseOperation;
}

/** Every form there is. */
export function allSseForms(): SseForm[] {
  const forms: SseForm[] = [];
  for (const opcode of OPCODES) {
    for (const prefix of [0, 1, 2, 3] as const) {
      for (const wide of [false, true]) {
        const operation = sseFloatOperation(opcode, prefix, wide);
        if (operation !== undefined && (!wide || operation.source === "gpr64" || operation.target === "gpr64")) {
          forms.push({ opcode, prefix, wide, operation });
        }
      }
    }
  }
  return forms;
}

export function operationOf(test: SseCase): SseOperation {
  const operation = sseFloatOperation(test.opcode, test.prefix, test.wide);
  if (operation === undefined) throw new Error(`no instruction 0f ${test.opcode.toString(16)}`);
  return operation;
}

/** Whether the elements of the source are doubles. */
function sourceIsDouble(form: SseForm): boolean {
  return form.operation.name === "cvtps2pd" || form.operation.name === "cvtss2sd" ? false : (form.prefix & 1) === 1;
}

export function makeSseCase(random: Random, form: SseForm): SseCase {
  const double = sourceIsDouble(form);
  const format = double ? F64 : F32;
  const count = double ? 2 : 4;
  const { name } = form.operation;
  let destination = 0n;
  let source = 0n;
  for (let i = count - 1; i >= 0; i--) {
    const a = randomFloat(random, format);
    let near = random.chance(2) ? exponentField(format, a) : undefined;
    if (/2(si|pi|dq)/.test(name)) near = format.bias + random.below(66);
    if (/^cvt(pd2ps|sd2ss)/.test(name)) near = format.bias + random.pick([0, -126, -140, 127]);
    const b = random.chance(8) ? a : randomFloat(random, format, near);
    destination = (destination << BigInt(format.bits)) | a;
    source = (source << BigInt(format.bits)) | b;
  }
  if (/^cvt(si|pi|dq)2/.test(name))
    source = random.chance(2) ? random.bits(128) : random.bits(64) >> BigInt(random.below(64));
  const masks = random.chance(2) ? 0x3f : random.below(64);
  const flags = random.chance(2) ? 0x20 : random.below(64);
  const plain = random.chance(3);
  const control = plain ? 0 : (random.below(4) << 13) | (random.chance(4) ? 0x8000 : 0) | (random.chance(4) ? 0x40 : 0);
  const mxcsr = (masks << 7) | flags | control;
  const { opcode, prefix, wide } = form;
  return { opcode, prefix, wide, immediate: random.below(8), mxcsr, destination, source };
}

export function sseRequest(test: SseCase): HostRequest {
  const operation = operationOf(test);
  const rm = operation.source === "gpr32" || operation.source === "gpr64" ? 0xc0 : 0xc1;
  const code = [...PREFIX_BYTES[test.prefix], ...(test.wide ? [0x48] : []), 0x0f, test.opcode, rm];
  if (operation.immediate) code.push(test.immediate);
  const st = hostState().st;
  st[1] = BigInt.asUintN(64, test.source);
  return {
    ...hostState({ mxcsr: test.mxcsr, xmm0: test.destination, xmm1: test.source, st }),
    rax: BigInt.asUintN(64, test.source),
    code: new Uint8Array(code),
  };
}

export function sseHostOutcome(test: SseCase, answer: HostAnswer): SseOutcome {
  if (answer.signal !== 0) return { fault: answer.signal === 8, mxcsr: answer.mxcsr, result: 0n };
  const results = {
    xmm: answer.xmm0,
    mmx: BigInt.asUintN(64, answer.st[0] ?? 0n),
    gpr32: BigInt.asUintN(64, answer.rax),
    gpr64: BigInt.asUintN(64, answer.rax),
    rflags: BigInt(answer.rflags & 0x8d5),
  };
  return { fault: false, mxcsr: answer.mxcsr, result: results[operationOf(test).target] };
}

export function sseSoftOutcome(test: SseCase): SseOutcome {
  const operation = operationOf(test);
  const unit = new SseUnit();
  unit.mxcsr = test.mxcsr;
  unit.u64[0] = test.destination;
  unit.u64[1] = test.destination >> 64n;
  unit.u64[2] = test.source;
  unit.u64[3] = test.source >> 64n;
  if (!executeSse(unit, operation, test.immediate)) return { fault: true, mxcsr: unit.mxcsr, result: 0n };
  let result = unit.u64[4] ?? 0n;
  if (operation.target === "xmm") result |= (unit.u64[5] ?? 0n) << 64n;
  if (operation.target === "rflags") result = BigInt(unit.rflags);
  return { fault: false, mxcsr: unit.mxcsr, result };
}

/** Approximations: special values agree, others within twice the error that each may have. */
function near(a: bigint, b: bigint): boolean {
  const view = new DataView(new ArrayBuffer(8));
  for (let i = 0n; i < 4n; i++) {
    const left = Number((a >> (32n * i)) & 0xffff_ffffn);
    const right = Number((b >> (32n * i)) & 0xffff_ffffn);
    if (left === right) continue;
    view.setUint32(0, left);
    view.setUint32(4, right);
    const x = view.getFloat32(0);
    const y = view.getFloat32(4);
    // A result next to the tiny ones may have been flushed to zero.
    if (Math.max(Math.abs(x), Math.abs(y)) <= 2 ** -125) continue;
    if (!(Math.abs(x - y) <= Math.abs(x) * 3 * 2 ** -12)) return false;
  }
  return true;
}

export function sseDifference(test: SseCase, wanted: SseOutcome, got: SseOutcome): string | undefined {
  const { name } = operationOf(test);
  const approximate = name.startsWith("rcp") || name.startsWith("rsqrt");
  const results = wanted.result === got.result || (approximate && near(wanted.result, got.result));
  if (results && wanted.fault === got.fault && wanted.mxcsr === got.mxcsr) return undefined;
  const show = ({ fault, mxcsr, result }: SseOutcome): string =>
    `${fault ? "#XM" : "ok"} ${mxcsr.toString(16)} ${result.toString(16)}`;
  return `${name} ${formatSseCase(test)}\n  wanted ${show(wanted)}\n  got    ${show(got)}`;
}

export function formatSseCase(test: SseCase): string {
  const { opcode, prefix, wide, immediate, mxcsr, destination, source } = test;
  const values = [opcode, prefix, wide ? 1 : 0, immediate, mxcsr].map((value) => value.toString(16)).join(" ");
  return `${values} ${destination.toString(16)} ${source.toString(16)}`;
}

export function formatSseVector(test: SseCase, { fault, mxcsr, result }: SseOutcome): string {
  return `${formatSseCase(test)} ${fault ? 1 : 0} ${mxcsr.toString(16)} ${result.toString(16)}`;
}

export function parseSseVector(line: string): { test: SseCase; outcome: SseOutcome } {
  const fields = line.split(" ");
  const big = (index: number): bigint => BigInt(`0x${fields[index] ?? ""}`);
  const number = (index: number): number => Number(big(index));
  const prefix = number(1);
  if (prefix !== 0 && prefix !== 1 && prefix !== 2 && prefix !== 3) throw new Error(`vector: prefix in ${line}`);
  return {
    test: {
      opcode: number(0),
      prefix,
      wide: number(2) === 1,
      immediate: number(3),
      mxcsr: number(4),
      destination: big(5),
      source: big(6),
    },
    outcome: { fault: number(7) === 1, mxcsr: number(8), result: big(9) },
  };
}
