/** `hookvisor new scheduler`: what it writes is loaded as a plugin and passes the kit that every scheduler passes; and the mistakes. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { createHooks, type HypervisorSetup } from "../../../core/index.ts";
import { loadUserPlugin } from "../../../core/node/load.ts";
import { newScheduler, schedulerFiles } from "../../../plugins/toolstack-lab/new-scheduler.ts";
import { schedulerSuite } from "../../conformance/scheduler.ts";

const folder = mkdtempSync(join(tmpdir(), "hookvisor-new-"));
afterAll(() => rmSync(folder, { recursive: true }));

const said = newScheduler("my-turns", join(folder, "my-turns"), ["credit"]);
const { plugin } = await loadUserPlugin({ spec: "./my-turns", folder, askedBy: "--plugin" });
const hooks = createHooks();
plugin.apply({ hooks } as HypervisorSetup);

test("the folder has a plugin under forty lines, a test, an experiment and a README", () => {
  for (const [file, text] of Object.entries(schedulerFiles("my-turns")))
    expect(readFileSync(join(folder, "my-turns", file), "utf8")).toBe(text);
  expect(Object.keys(schedulerFiles("my-turns"))).toEqual([
    "plugin.ts",
    "my-turns.test.ts",
    "experiment.yaml",
    "README.md",
  ]);
  expect(schedulerFiles("my-turns")["plugin.ts"]!.trim().split("\n").length).toBeLessThan(40);
  expect(plugin.name).toBe("scheduler-my-turns");
  expect(said).toContain("--scheduler credit2 --scheduler my-turns");
});

test.each([
  ["Mine", undefined, "A scheduler's name is made of lower-case letters"],
  ["credit", undefined, "There is a scheduler 'credit' already"],
  ["mine", join(folder, "my-turns"), "is there already and is not empty"],
])("%s is refused in one sentence", (name, target, message) => {
  expect(() => newScheduler(name, target, ["credit"])).toThrow(message);
  expect(existsSync("mine")).toBe(false);
});

schedulerSuite(
  {
    describe,
    test,
    check(condition, message) {
      if (!condition) throw new Error(message);
    },
  },
  { name: "my-turns", make: (host) => hooks.scheduler.for("my-turns").call(host)! },
);
