/** Thrown by the host's side of grants and frame mappings; guests see the status. */
import { GNTST, nameOf } from "../abi/index.ts";
import { HookvisorError } from "../errors.ts";

/** A mapping failed; `status` is one of GNTST, below 0. */
export class GrantError extends HookvisorError {
  readonly status: number;
  constructor(status: number, what: string) {
    super("HV_GRANT", `${what}: GNTST_${nameOf(GNTST, status) ?? status}.`);
    this.status = status;
  }
}
