/**
 * Runs the command `hookvisor` as a user does, in a process of its own, and answers what it printed and its exit code.
 */
import { execFile } from "node:child_process";
import { join } from "node:path";

/** The project's folder. */
export const PROJECT = join(import.meta.dirname, "..", "..");

const BIN = join(PROJECT, "core", "node", "bin", "hookvisor.js");

/** How a run of the command ended. */
export interface Ran {
  readonly code: number;
  /** Carriage returns left out, so that a terminal's line ends do not matter. */
  readonly stdout: string;
  readonly stderr: string;
}

/** Where and how long. */
export interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Host milliseconds after which the process is ended; default 60 s. */
  readonly timeout?: number;
}

/** Runs `hookvisor ARGS`. */
export function hookvisor(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const settings = {
    cwd: options.cwd ?? PROJECT,
    env: { ...process.env, ...options.env },
    timeout: options.timeout ?? 60_000,
    maxBuffer: 64 << 20,
  };
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [BIN, ...args], settings, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
      resolve({ code, stdout: stdout.replaceAll("\r", ""), stderr: stderr.replaceAll("\r", "") });
    });
    child.stdin?.end();
  });
}

/** The lines that a run of several domains printed for one of them, without its name in front. */
export function linesOf(ran: Ran, name: string): string[] {
  const prefix = new RegExp(`^${name} *: *`);
  return ran.stdout
    .split("\n")
    .filter((line) => prefix.test(line))
    .map((line) => line.replace(prefix, ""));
}
