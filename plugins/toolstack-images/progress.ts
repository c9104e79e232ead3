/**
 * What a person sees while an image is fetched: a bar on a terminal, a line a step elsewhere, nothing when quiet. All of it on stderr.
 */
import { formatSize } from "./format.ts";

/** Where progress goes. */
export interface ProgressOutput {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

const BAR = 24;
const CLEAR = "\r\x1b[K";

export class Progress {
  readonly #out: ProgressOutput | null;
  #drawn = false;

  /** @param quiet nothing is shown */
  constructor(out: ProgressOutput, quiet: boolean) {
    this.#out = quiet ? null : out;
  }

  /** A step begins. */
  step(text: string): void {
    if (this.#out?.isTTY === true) this.#draw(`hookvisor: ${text}`);
    else this.#out?.write(`hookvisor: ${text}\n`);
  }

  /** `done` bytes of `of` are there; 0 of 0: nobody knows. */
  bytes(done: number, of: number, what: string): void {
    if (this.#out?.isTTY !== true || of === 0) return;
    const filled = Math.round((BAR * done) / of);
    const bar = `${"#".repeat(filled)}${"-".repeat(BAR - filled)}`;
    this.#draw(`hookvisor: ${what} [${bar}] ${formatSize(done)} of ${formatSize(of)}`);
  }

  /** A step that has something to tell for good. */
  note(text: string): void {
    this.finish();
    this.#out?.write(`hookvisor: ${text}\n`);
  }

  /** Leaves the line as it was before. */
  finish(): void {
    if (this.#drawn) this.#out?.write(CLEAR);
    this.#drawn = false;
  }

  #draw(text: string): void {
    this.#out?.write(`${CLEAR}${text.slice(0, Math.max(20, (this.#out.columns ?? 80) - 1))}`);
    this.#drawn = true;
  }
}
