/** io/xenbus.h: the states of either end of a split driver, as its `state` node has them in decimal. */
import { table } from "../table.ts";

export const XenbusState = table({
  Unknown: 0,
  Initialising: 1,
  InitWait: 2,
  Initialised: 3,
  Connected: 4,
  Closing: 5,
  Closed: 6,
  Reconfiguring: 7,
  Reconfigured: 8,
});
export type XenbusState = (typeof XenbusState)[keyof typeof XenbusState];
