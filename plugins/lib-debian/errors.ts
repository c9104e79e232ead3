/**
 * Errors of the Debian library: each is one clear sentence for a person, with a stable code for a program.
 */

/** What went wrong, for a program. */
export type DebianErrorCode =
  | "no-apt"
  | "no-mirror"
  | "bad-name"
  | "offline"
  | "no-package"
  | "no-file"
  | "damaged"
  | "busy"
  | "aborted";

/** A failure to get a file out of a Debian package; `message` is one sentence that says what to do. */
export class DebianError extends Error {
  readonly code: DebianErrorCode;

  constructor(code: DebianErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "DebianError";
    this.code = code;
  }
}
