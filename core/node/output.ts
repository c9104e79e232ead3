/**
 * The process's output when nobody takes it any more: a pipe whose reader has gone (`hookvisor run guest | head`), a full disk.
 *
 * A stream's error event that nobody listens to would end the process with a stack trace. Here it becomes a signal that the toolstack
 * watches, so that the run ends in order, and an exit code.
 * Invariants: after the first error nothing more is said on that stream; the exit code is known only when everything said has been taken or lost.
 */
import { ConfigError } from "../errors.ts";
import type { HostStreams } from "./host-plugin.ts";

/** Exit code of a command whose reader has gone: what a shell shows for SIGPIPE. */
export const EXIT_PIPE = 141;

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: "no space is left on the device",
  EIO: "the device failed",
  EDQUOT: "the disk quota is used up",
};

/** Watches the output streams; they are watched as long as they live. */
export class OutputWatch {
  readonly #controller = new AbortController();
  readonly #streams: readonly HostStreams["stdout"][];
  #error: NodeJS.ErrnoException | null = null;

  constructor({ stdout, stderr }: HostStreams) {
    this.#streams = [...new Set([stdout, stderr])];
    for (const stream of this.#streams)
      stream.on("error", (error: NodeJS.ErrnoException) => {
        this.#error ??= error;
        this.#controller.abort();
      });
  }

  /** Aborted when output is lost. */
  get lost(): AbortSignal {
    return this.#controller.signal;
  }

  /** Waits until all that was said has been taken or is known to be lost: an error is told only after the write that met it. */
  async flush(): Promise<void> {
    await Promise.all(
      this.#streams.map((stream) =>
        stream.destroyed || stream.writableEnded
          ? undefined
          : new Promise<void>((resolve) => stream.write("", () => resolve())),
      ),
    );
    await new Promise<void>((resolve) => setImmediate(resolve));
  }

  /** The exit code of a command that ended with `code`, once it has been flushed. Throws ConfigError when output is lost for another reason than a reader who left. */
  exitCode(code: number): number {
    const error = this.#error;
    if (error === null) return code;
    if (error.code === "EPIPE" || error.code === "ERR_STREAM_DESTROYED") return EXIT_PIPE;
    const name = error.code ?? error.message;
    const reason = REASONS[name];
    throw new ConfigError(
      `The output cannot be written${reason === undefined ? ` (${name})` : `: ${reason} (${name})`}.`,
      { cause: error },
    );
  }
}
