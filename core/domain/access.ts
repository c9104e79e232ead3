/**
 * May one domain act on another? The core's form of Xen's XSM points: a fixed default rule, after the `accessCheck` hook.
 *
 * Invariants: the hook can only refuse what the rule would allow; domain 0 (the host process) passes every rule.
 */
import { DOMID, ERRNO } from "../abi/index.ts";
import type { Machine } from "../machine/machine.ts";
import type { Domain } from "./domain.ts";

/** `hook`: anybody; `target`: the domain itself and domain 0; `privileged`: domain 0 only (xsm/dummy.h: XSM_HOOK, XSM_TARGET, XSM_PRIV). */
export type AccessRule = "hook" | "target" | "privileged";

/** 0, or the negative errno with which `action` of `actor` on `target` is refused. */
export function checkAccess(machine: Machine, actor: Domain, action: string, target: Domain, rule: AccessRule): number {
  const { accessCheck } = machine.hooks;
  if (accessCheck.isUsed()) {
    const refused: number | undefined = accessCheck.call({ actor, action, target });
    if (refused !== undefined && refused < 0) return refused;
  }
  if (actor.id === 0 || rule === "hook" || (rule === "target" && actor === target)) return 0;
  return -ERRNO.EPERM;
}

/** The domain that `actor` names by an id or DOMID_SELF. */
export function lookUpDomain(machine: Machine, actor: Domain, id: number): Domain | undefined {
  return id === DOMID.SELF ? actor : machine.domains.get(id);
}
