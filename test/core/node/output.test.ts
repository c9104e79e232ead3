/** Output that nobody takes, in processes of their own: a full disk is said and answers 1, a reader who has gone answers 141. */
import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync } from "node:fs";
import { join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { describe, expect, test } from "vitest";
import { main } from "../../../core/node/main.ts";

const COMMAND = join(import.meta.dirname, "..", "..", "..", "core", "node", "bin", "hookvisor.js");

/** Runs the command; `stdout` is a file's descriptor, or a pipe that its reader closes at once. */
function run(argv: readonly string[], stdout: number | "closed"): Promise<{ code: number | null; err: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [COMMAND, ...argv], {
      stdio: ["ignore", stdout === "closed" ? "pipe" : stdout, "pipe"],
      env: { ...process.env, HOOKVISOR_DEBUG: "" },
    });
    child.stdout?.destroy();
    let err = "";
    child.stderr!.on("data", (bytes: Buffer) => {
      err += bytes.toString();
    });
    child.on("error", reject).on("close", (code) => resolve({ code, err }));
  });
}

// The last words before the end: what is written in the course of a run ends it, which is tested with the command itself.
describe.each([[["run", "hello"]], [["images"]]])("hookvisor %j", (argv) => {
  test.skipIf(!existsSync("/dev/full"))("onto a full disk", async () => {
    const full = openSync("/dev/full", "w");
    const { code, err } = await run(argv, full);
    closeSync(full);
    expect({ code, err }).toEqual({
      code: 1,
      err: "hookvisor: The output cannot be written: no space is left on the device (ENOSPC).\n",
    });
  });

  test("into a pipe whose reader has gone", async () => {
    expect(await run(argv, "closed")).toEqual({ code: 141, err: "" });
  });
});

test("the code is known when a slow reader has taken everything", async () => {
  const slow = new Writable({ write: (_chunk, _encoding, done) => void setTimeout(done, 20) });
  const code = await main(["--version"], { stdin: new PassThrough(), stdout: slow, stderr: new PassThrough() });
  expect([code, slow.writableLength]).toEqual([0, 0]);
});

test("what a slow reader loses in the end is noticed", async () => {
  const failing = new Writable({
    write: (_chunk, _encoding, done) =>
      void setTimeout(() => done(Object.assign(new Error("lost"), { code: "EPIPE" })), 20),
  });
  const streams = { stdin: new PassThrough(), stdout: failing, stderr: new PassThrough() };
  expect(await main(["--version"], streams)).toBe(141);
});
