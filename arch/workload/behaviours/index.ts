/** All behaviours, by name: the only list of them. */
import type { Value } from "../value.ts";
import type { BehaviourKind, Plan } from "./behaviour.ts";
import { bursts } from "./bursts.ts";
import { forkJoin } from "./fork-join.ts";
import { hog } from "./hog.ts";
import { io } from "./io.ts";
import { lock } from "./lock.ts";
import { periodic } from "./periodic.ts";
import { mix, sequence } from "./sequence.ts";
import { tickDodger } from "./tick-dodger.ts";

export const behaviours: readonly BehaviourKind[] = [
  hog,
  periodic,
  io,
  forkJoin,
  lock,
  tickDodger,
  bursts,
  sequence,
  mix,
];

/** Reads a behaviour: an object whose key `behaviour` names its kind. */
export function readPlan(value: Value): Plan {
  const fields = value.fields();
  const name: Value = fields.need("behaviour");
  const kind = behaviours.find((one) => one.name === name.string());
  if (kind === undefined)
    name.fail(`is ${name.show()}, which is no behaviour; there are ${behaviours.map((one) => one.name).join(", ")}`);
  return kind.read(fields, readPlan);
}
