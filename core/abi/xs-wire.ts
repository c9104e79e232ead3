/**
 * Constants of XenStore's wire protocol and of a domain's ring page (xen/io/xs_wire.h). Codecs are in core/xenstore.
 */
import type { ErrnoName } from "./errno.ts";
import { table } from "./table.ts";

/** Message types: enum xsd_sockmsg_type. */
export const XS = table({
  CONTROL: 0,
  DIRECTORY: 1,
  READ: 2,
  GET_PERMS: 3,
  WATCH: 4,
  UNWATCH: 5,
  TRANSACTION_START: 6,
  TRANSACTION_END: 7,
  INTRODUCE: 8,
  RELEASE: 9,
  GET_DOMAIN_PATH: 10,
  WRITE: 11,
  MKDIR: 12,
  RM: 13,
  SET_PERMS: 14,
  WATCH_EVENT: 15,
  ERROR: 16,
  IS_DOMAIN_INTRODUCED: 17,
  RESUME: 18,
  SET_TARGET: 19,
  RESET_WATCHES: 21,
  DIRECTORY_PART: 22,
  TYPE_COUNT: 23,
  INVALID: 0xffff,
});

/** The errors that may travel, in the header's order (xsd_errors[]): clients know no others. */
export const XSD_ERRORS = Object.freeze([
  "EINVAL",
  "EACCES",
  "EEXIST",
  "EISDIR",
  "ENOENT",
  "ENOMEM",
  "ENOSPC",
  "EIO",
  "ENOTEMPTY",
  "ENOSYS",
  "EROFS",
  "EBUSY",
  "EAGAIN",
  "EISCONN",
  "E2BIG",
  "EPERM",
] as const satisfies readonly ErrnoName[]);

/** Name of an error that may travel. */
export type XsErrorName = (typeof XSD_ERRORS)[number];

/** Offsets in struct xsd_sockmsg, and its size: four 32-bit words in the domain's byte order, then the payload. */
export const XSD_SOCKMSG = Object.freeze({ type: 0, reqId: 4, txId: 8, len: 12, size: 16 });

/** Offsets in struct xenstore_domain_interface, and the size of what is defined of the page. */
export const XENSTORE_INTERFACE = Object.freeze({
  req: 0,
  rsp: 1024,
  reqCons: 2048,
  reqProd: 2052,
  rspCons: 2056,
  rspProd: 2060,
  serverFeatures: 2064,
  connection: 2068,
  error: 2072,
  size: 2076,
});

/** XENSTORE_*: sizes, features, the values of `connection` and of `error`. */
export const XENSTORE = table({
  RING_SIZE: 1024,
  PAYLOAD_MAX: 4096,
  ABS_PATH_MAX: 3072,
  REL_PATH_MAX: 2048,
  SERVER_FEATURE_RECONNECTION: 1,
  SERVER_FEATURE_ERROR: 2,
  CONNECTED: 0,
  RECONNECT: 1,
  ERROR_NONE: 0,
  ERROR_COMM: 1,
  ERROR_RINGIDX: 2,
  ERROR_PROTO: 3,
});
