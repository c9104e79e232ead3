/** `hookvisor run --vif --pcap`: from the command line to devices and a capture file; and the mistakes. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { main } from "../../../core/node/main.ts";
import { BROADCAST, pcapHeader, pcapRecord, plainFrame, writeMac } from "../../../plugins/lib-switch/index.ts";
import { Capture } from "../../../plugins/toolstack-network/capture.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-network-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

class Collector extends Writable {
  text = "";
  override _write(chunk: Buffer | string, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

/** Runs the command in this process. */
async function hookvisor(argv: readonly string[]) {
  const stdout = new Collector();
  const stderr = new Collector();
  const stdin = new PassThrough();
  stdin.end();
  const code = await main(argv, { stdin, stdout, stderr });
  return { code, stdout: stdout.text, stderr: stderr.text };
}

describe("run", () => {
  test("--vif gives each domain a device, --pcap a file", async () => {
    const path = join(folder, "run.pcap");
    const trace = join(folder, "run.trace");
    const ran = await hookvisor([
      "run",
      "hello",
      "hello",
      "--vif",
      "",
      "--vif",
      "bridge=lan",
      "--pcap",
      path,
      "--trace",
      trace,
    ]);
    expect(ran).toMatchObject({ code: 0 });
    const devices = readFileSync(trace, "utf8").match(/device d\d vif\/\d state=2/g);
    expect(devices).toEqual([1, 2].flatMap((d) => [0, 1].map((id) => `device d${d} vif/${id} state=2`)));
    expect(new Uint8Array(readFileSync(path))).toEqual(pcapHeader());
  });

  test("help has the options", async () => {
    const { stdout } = await hookvisor(["run", "--help"]);
    expect(stdout).toContain("--vif <spec>");
    expect(stdout).toContain("--pcap <file>");
  });

  test.each([
    [["--vif", "colour=red"], "Network device 'colour=red': there is no parameter 'colour'"],
    [["--pcap", "/no/such/folder/x.pcap"], "Capture /no/such/folder/x.pcap cannot be written (ENOENT)."],
    [["--pcap", "a", "--pcap", "b"], "Option --pcap is given 2 times; give it once."],
    [["--vif", "devid=1", "--vif", "devid=1"], "has two devices 'vif' with the number 1"],
  ])("%j is refused in one sentence", async (options, message) => {
    const ran = await hookvisor(["run", "hello", ...options]);
    expect(ran.code).toBe(1);
    expect(ran.stderr.trim().split("\n")).toHaveLength(1);
    expect(ran.stderr).toContain(message);
  });
});

test("a capture has a record for every frame, whenever it is written out", () => {
  const path = join(folder, "direct.pcap");
  const capture = new Capture(path);
  const bytes = new Uint8Array(1000);
  writeMac(bytes, 0, BROADCAST);
  const frame = plainFrame(bytes);
  const zero = 1_767_225_600_000_000_000;
  const records = Array.from({ length: 600 }, (_, n) => {
    capture.frame(frame, n * 1000, zero);
    return pcapRecord(frame, n * 1000, zero);
  });
  capture.close();
  expect(Buffer.compare(readFileSync(path), Buffer.concat([pcapHeader(), ...records]))).toBe(0);
});
