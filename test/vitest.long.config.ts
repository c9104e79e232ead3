import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

/** The long suite: repeats, kills, fuzzing and userland suites; run before a claim is made. */
export default defineConfig({
  root: fileURLToPath(new URL("..", import.meta.url)),
  resolve: { conditions: ["hookvisor-source"] },
  ssr: { resolve: { conditions: ["hookvisor-source"] } },
  test: {
    include: ["test/**/*.long.ts"],
    maxWorkers: 1,
    testTimeout: 1_800_000,
    hookTimeout: 600_000,
  },
});
