/**
 * Recorded outcomes of the host's CPU, one line a case:
 *
 *   kind seed code outcome...
 *
 * The input is made from kind and seed (generate.ts): i integer, v vector, f x87, r repeated string, s sequence. The outcome is
 * vector,rip,error,address (hex), rflags, then name=value of what differs from the input: registers, scratch bytes from the first to
 * the last that changed, and fx bytes the same way. `node test/tools/x86-vectors.ts` records them anew.
 */

import { definedFlags, Random, randomCase, randomFx, repeatedString, sequence } from "./generate.ts";
import type { Case, Outcome } from "./guest.ts";

export type Kind = "i" | "v" | "f" | "r" | "s";

/** The input of a case. */
export function inputOf(kind: Kind, seed: number, code: Uint8Array): Case {
  const random = new Random(seed);
  if (kind === "r") return repeatedString(random);
  if (kind === "s") return sequence(random);
  const c = randomCase(random, [...code], true);
  return kind === "i" ? c : { ...c, fx: randomFx(random, kind === "f") };
}

/** Flags that count for a case. */
export function flagsOf(kind: Kind, code: Uint8Array): number {
  if (kind === "s") return 0x8c5;
  if (kind === "r") return 0xcd5;
  return definedFlags(code);
}

function change(before: Uint8Array, after: Uint8Array, from: number, to: number): string | null {
  let first = from;
  while (first < to && before[first] === after[first]) first++;
  if (first === to) return null;
  let last = to - 1;
  while (before[last] === after[last]) last--;
  return `${first}:${Buffer.from(after.subarray(first, last + 1)).toString("hex")}`;
}

export function encodeLine(kind: Kind, seed: number, input: Case, outcome: Outcome): string {
  const hex = (x: bigint | number) => x.toString(16);
  const parts: string[] = [
    kind,
    String(seed),
    kind === "r" || kind === "s" ? "-" : Buffer.from(input.code).toString("hex"),
    [outcome.vector, outcome.rip, outcome.error, outcome.address].map(hex).join(","),
    hex(outcome.rflags),
  ];
  for (let n = 0; n < 16; n++) if (input.gpr[n] !== outcome.gpr[n]) parts.push(`r${n}=${hex(outcome.gpr[n]!)}`);
  const scratch = change(input.scratch, outcome.scratch, 0, 8192);
  if (scratch !== null) parts.push(`m=${scratch}`);
  if (input.fx !== null) {
    for (const [from, to] of [
      [0, 6],
      [24, 28],
      [32, 160],
      [160, 416],
    ] as const) {
      const fx = change(input.fx, outcome.fx, from, to);
      if (fx !== null) parts.push(`x=${fx}`);
    }
  }
  return parts.join(" ");
}

export interface Recorded {
  readonly kind: Kind;
  readonly input: Case;
  readonly outcome: Outcome;
}

export function decodeLine(line: string): Recorded {
  const [kind, seed, code, head, flags, ...changes] = line.split(" ") as [
    Kind,
    string,
    string,
    string,
    string,
    ...string[],
  ];
  const input = inputOf(kind, Number(seed), code === "-" ? new Uint8Array() : Buffer.from(code, "hex"));
  const [vector, rip, error, address] = head.split(",") as [string, string, string, string];
  const outcome: Outcome = {
    gpr: input.gpr.slice(),
    rflags: Number.parseInt(flags, 16),
    vector: Number.parseInt(vector, 16),
    rip: Number.parseInt(rip, 16),
    error: Number.parseInt(error, 16),
    address: BigInt(`0x${address}`),
    fx: input.fx === null ? new Uint8Array(512) : input.fx.slice(),
    scratch: input.scratch.slice(),
  };
  for (const part of changes) {
    const [name, value] = part.split("=") as [string, string];
    if (name.startsWith("r")) outcome.gpr[Number(name.slice(1))] = BigInt(`0x${value}`);
    else {
      const [at, bytes] = value.split(":") as [string, string];
      (name === "m" ? outcome.scratch : outcome.fx).set(Buffer.from(bytes, "hex"), Number(at));
    }
  }
  return { kind, input, outcome };
}
