/**
 * Permissions of XenStore nodes. The first entry names the owner and what everyone else may do; each further entry what one
 * domain may do. Owner and privileged connections may do everything.
 *
 * Invariant: a node's list has at least one entry and is never modified in place.
 */
import { XenStoreError } from "./errors.ts";

/** Bits of an entry (enum xs_perm_type of the protocol's text form), and of what a connection may do. */
export const Access = Object.freeze({ NONE: 0, READ: 1, WRITE: 2, OWNER: 4 });

/** One entry: what `domid` may do, a set of Access.READ and Access.WRITE. In the first entry: the owner, and everyone else's rights. */
export interface Permission {
  readonly domid: number;
  readonly access: number;
}

/** Who asks. A connection with a target (SET_TARGET) also has the target's rights. */
export interface Actor {
  readonly domid: number;
  readonly privileged: boolean;
  readonly target: number | undefined;
}

const letters = ["n", "r", "w", "b"] as const;

/** What an actor may do with a node of these permissions: a set of Access bits. */
export function accessOf(actor: Actor, permissions: readonly Permission[]): number {
  const [first] = permissions;
  if (actor.privileged) return Access.READ | Access.WRITE | Access.OWNER;
  if (first === undefined) return Access.NONE;
  if (isActor(actor, first.domid)) return Access.READ | Access.WRITE | Access.OWNER;
  for (let index = 1; index < permissions.length; index++) {
    const entry = permissions[index]!;
    if (isActor(actor, entry.domid)) return entry.access;
  }
  return first.access;
}

/** The owner: domain of the first entry. */
export function ownerOf(permissions: readonly Permission[]): number {
  return permissions[0]?.domid ?? 0;
}

/** An entry as it travels: one of n, r, w, b and the domain's number. */
export function formatPermission(permission: Permission): string {
  return `${letters[permission.access & 3]!}${permission.domid}`;
}

/** Parses an entry as it travels; throws EINVAL. */
export function parsePermission(text: string): Permission {
  const match = /^([nrwb])(\d{1,5})$/.exec(text);
  const domid = Number(match?.[2]);
  if (match === null || domid > 0xffff) throw new XenStoreError("EINVAL", text.slice(0, 20));
  return { domid, access: letters.indexOf(match[1] as (typeof letters)[number]) };
}

function isActor(actor: Actor, domid: number): boolean {
  return domid === actor.domid || (actor.target !== undefined && domid === actor.target);
}
