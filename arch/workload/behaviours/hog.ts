/** Runs for ever. */
import type { BehaviourKind } from "./behaviour.ts";

export const hog: BehaviourKind = {
  name: "hog",
  summary: "computes for ever",
  read(fields) {
    fields.close("a hog");
    return {
      finite: false,
      shared: false,
      make: () => ({ start: () => {}, next: (guest) => guest.run(Infinity) }),
    };
  },
};
