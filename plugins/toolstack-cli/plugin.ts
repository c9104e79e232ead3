/**
 * The toolstack for a person at a terminal: the command `hookvisor`.
 *
 * Owns the hooks `toolstack` (command, image, configKey), by which other plugins add to it, and is the `main` of the host process.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { definePlugin } from "hookvisor";
import { projectRoot } from "../../core/node/resolve.ts";
import { runCli } from "./cli.ts";
import { createToolstackHooks } from "./hooks.ts";
import { ownImages, summaryOf } from "./images.ts";

const NAME = "toolstack-cli";

export default definePlugin({
  name: NAME,
  api: "^1.0.0",
  requires: ["host"],
  description: "the hookvisor command: run, demo, list-plugins, completion",
  apply(hypervisor) {
    const toolstack = createToolstackHooks();
    hypervisor.ownHooks("toolstack", toolstack);
    for (const [name, kernel] of ownImages(projectRoot))
      toolstack.image.for(name).tap(NAME, () => ({
        summary: summaryOf(name),
        settings: async () => ({ kernel, memory: 32 }),
      }));
    hypervisor.hooksOf("host")?.main.tapPromise(NAME, (run) => {
      const { version } = JSON.parse(readFileSync(join(run.root, "package.json"), "utf8")) as { version: string };
      return runCli(run, toolstack, version);
    });
  },
});
