/** Thrown by the host's side of event channels; guests see the errno. */
import { errnoName } from "../abi/index.ts";
import { HookvisorError } from "../errors.ts";

/** An operation on an event channel failed; `errno` is Xen's, negative. */
export class EventError extends HookvisorError {
  readonly errno: number;
  constructor(errno: number, what: string) {
    super("HV_EVENT", `${what}: ${errnoName(errno) ?? `error ${errno}`}.`);
    this.errno = errno;
  }
}
