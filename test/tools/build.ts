/**
 * `npm run build`: compiles core, arch, plugins and what they publish of test (the conformance kits) into dist/, with declarations.
 *
 * TypeScript rewrites the `.ts` endings of relative imports; nothing is bundled, so that dist/ has the shape of the sources. The folder is made anew
 * each time, so that nothing of an earlier build stays.
 */
import { spawnSync } from "node:child_process";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..", "..");
const dist = join(root, "dist");
const config = join(root, "tsconfig.build.tmp.json");

rmSync(dist, { recursive: true, force: true });
writeFileSync(
  config,
  JSON.stringify({
    extends: "./tsconfig.json",
    compilerOptions: {
      noEmit: false,
      outDir: "dist",
      rootDir: ".",
      declaration: true,
      allowImportingTsExtensions: true,
    },
    include: ["core/**/*.ts", "arch/**/*.ts", "plugins/**/*.ts", "test/conformance/index.ts"],
    exclude: ["node_modules", "dist"],
  }),
);
try {
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  const { status } = spawnSync(process.execPath, [tsc, "-p", config], { stdio: "inherit", cwd: root });
  process.exitCode = status ?? 1;
} finally {
  rmSync(config, { force: true });
}
if (process.exitCode === 0 && !existsSync(join(dist, "core", "node", "main.js"))) {
  console.error("build: dist/core/node/main.js was not made");
  process.exitCode = 1;
}
