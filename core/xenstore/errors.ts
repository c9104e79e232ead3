/**
 * What XenStore answers when it refuses: the name of an error, as it travels on the wire. Thrown by the store's operations;
 * the connection turns it into an ERROR message, the local client passes it on.
 */
import { ERRNO } from "../abi/errno.ts";
import type { XsErrorName } from "../abi/xs-wire.ts";

/** A refused XenStore operation. `errno` is the name that travels, `number` Xen's number for it. */
export class XenStoreError extends Error {
  readonly errno: XsErrorName;
  readonly number: number;
  /** The path (or the other subject) that the operation was about; "" if there was none. */
  readonly path: string;
  constructor(errno: XsErrorName, path = "") {
    super(path === "" ? `XenStore: ${errno}` : `XenStore: ${errno}: ${path}`);
    this.name = "XenStoreError";
    this.errno = errno;
    this.number = ERRNO[errno];
    this.path = path;
  }
}
