/**
 * Xen's error numbers (xen/errno.h). Hypercalls return them negated; XenStore sends their names.
 *
 * Invariants: the table is frozen and complete for the header; where two names share a number (EAGAIN and EWOULDBLOCK,
 * EDEADLK and EDEADLOCK) the number's name is the first of the two, as in the header.
 */
import { table } from "./table.ts";

/** Error numbers by name, as a guest may see them (positive; a hypercall returns them negated). */
export const ERRNO = table({
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  ENOEXEC: 8,
  EBADF: 9,
  ECHILD: 10,
  EAGAIN: 11,
  EWOULDBLOCK: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  EDOM: 33,
  ERANGE: 34,
  EDEADLK: 35,
  EDEADLOCK: 35,
  ENAMETOOLONG: 36,
  ENOLCK: 37,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ENODATA: 61,
  ETIME: 62,
  EBADMSG: 74,
  EOVERFLOW: 75,
  EILSEQ: 84,
  ENOTSOCK: 88,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENOBUFS: 105,
  EISCONN: 106,
  ENOTCONN: 107,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
});

/** Error numbers of the hypervisor's inside (under `__XEN__` in the header): a guest never sees them. */
export const ERRNO_INTERNAL = table({ EINTR: 4, ERESTART: 85 });

/** The name of an error that a guest may see. */
export type ErrnoName = keyof typeof ERRNO;

const nameByNumber: ReadonlyMap<number, ErrnoName> = (() => {
  const names = new Map<number, ErrnoName>();
  for (const [name, value] of Object.entries(ERRNO) as [ErrnoName, number][]) {
    if (!names.has(value)) names.set(value, name);
  }
  return names;
})();

/** The name of an error number, positive or negated as hypercalls return it; undefined if the header has none. */
export function errnoName(value: number): ErrnoName | undefined {
  return nameByNumber.get(value < 0 ? -value : value);
}

/** Whether a string is the name of an error number. */
export function isErrnoName(name: string): name is ErrnoName {
  return Object.hasOwn(ERRNO, name);
}
