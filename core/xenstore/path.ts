/**
 * XenStore paths: validation, resolution of relative ones, parents and children (xenstore.txt, xs_wire.h).
 *
 * Invariants: a resolved path is either special (starts with "@") or absolute, without empty components, without a trailing
 * slash except for the root, made of [A-Za-z0-9-/_@], and shorter than ABS_PATH_MAX. Everything past this file
 * takes resolved paths only.
 */
import { XENSTORE } from "../abi/xs-wire.ts";
import { XenStoreError } from "./errors.ts";

const characters = /^[A-Za-z0-9\-/_@]*$/;

/** The base of a domain's relative paths, without a trailing slash. */
export function domainPath(domid: number): string {
  return `/local/domain/${domid}`;
}

/** Whether this names one of the store's invented events rather than a node. */
export function isSpecial(path: string): boolean {
  return path.startsWith("@");
}

/**
 * Resolves what a client sent to a path of the tree. Throws EINVAL for a path that is empty, too long (both daemons reject a length
 * of exactly the limit), badly formed, or special where that is not allowed.
 */
export function resolvePath(domid: number, sent: string, special = false): string {
  if (sent.startsWith("@")) {
    if (!special || sent.length >= XENSTORE.REL_PATH_MAX || !characters.test(sent)) throw invalid(sent);
    return sent;
  }
  if (sent.startsWith("/")) {
    if (!wellFormed(sent) || sent.length >= XENSTORE.ABS_PATH_MAX) throw invalid(sent);
    return sent;
  }
  if (sent.length === 0 || sent.length >= XENSTORE.REL_PATH_MAX) throw invalid(sent);
  const path = `${domainPath(domid)}/${sent}`;
  if (!wellFormed(path)) throw invalid(sent);
  return path;
}

/** The path one level up; the root for a top-level node. The root itself has none: undefined. */
export function parentPath(path: string): string | undefined {
  if (path === "/") return undefined;
  const slash = path.lastIndexOf("/");
  return slash === 0 ? "/" : path.slice(0, slash);
}

/** The last component of a path. */
export function leafName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** The path of a child. */
export function childPath(parent: string, leaf: string): string {
  return parent === "/" ? `/${leaf}` : `${parent}/${leaf}`;
}

/** Whether `path` is `ancestor` or below it. */
export function isWithin(path: string, ancestor: string): boolean {
  if (ancestor === "/") return path.startsWith("/");
  return path.startsWith(ancestor) && (path.length === ancestor.length || path[ancestor.length] === "/");
}

function wellFormed(path: string): boolean {
  return characters.test(path) && !path.includes("//") && (path === "/" || !path.endsWith("/"));
}

function invalid(path: string): XenStoreError {
  return new XenStoreError("EINVAL", path.length > 80 ? `${path.slice(0, 80)}...` : path);
}
