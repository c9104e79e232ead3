/** How a vCPU waits for others: the keys `wait` and `yieldAfter`, which barriers and locks share. */
import type { Guest } from "../guest.ts";
import type { Fields } from "../value.ts";

export interface Waiting {
  /** Burning CPU, or halted. */
  readonly spins: boolean;
  /** Instructions of spinning between two yields; Infinity: it never yields. */
  readonly patience: number;
}

/** Reads the two keys. */
export function readWaiting(fields: Fields, preset: "spin" | "block"): Waiting {
  const spins = (fields.get("wait")?.word(["spin", "block"]) ?? preset) === "spin";
  const yieldAfter = fields.get("yieldAfter");
  if (yieldAfter !== undefined && !spins) yieldAfter.fail('is for "wait": "spin" only');
  return { spins, patience: yieldAfter?.duration({ min: 1 }) ?? Infinity };
}

/** Waits until it is granted. */
export function waitForOthers(guest: Guest, { spins, patience }: Waiting): void {
  if (spins) guest.spin(patience);
  else guest.block();
}
