import { defineConfig } from "vitest/config";

/** The short suite: what `npm test` runs. Long forms (repeats, kills, fuzzing) end in `.long.ts`. */
export default defineConfig({
  resolve: { conditions: ["hookvisor-source"] },
  ssr: { resolve: { conditions: ["hookvisor-source"] } },
  test: {
    include: ["test/**/*.test.ts"],
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
