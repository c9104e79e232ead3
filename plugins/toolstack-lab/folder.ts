/**
 * The folder of a study as a place: may it be used, and what of an earlier study has to go.
 *
 * Invariant: nothing is removed but what the laboratory writes, known by its name.
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { ConfigError } from "hookvisor";

/** Recordings of runs. */
export const RECORDINGS = "recordings";
/** Recordings of a study that is under way. */
export const STAGED = "recordings.part";
/** Finished runs of a sweep. */
export const FINISHED = "finished";

const FILES: readonly string[] = [
  "manifest.json",
  "host.json",
  "results.json",
  "metrics.csv",
  "runs.csv",
  "report.html",
  "compare.json",
  "compare.txt",
  "compare.html",
];

const RECORDING = /^(point-\d+-)?seed-\d+\.hvrec(\.part)?$/;

/** Folders, with the names of the files that are written there. */
const FOLDERS: Readonly<Record<string, RegExp>> = {
  [RECORDINGS]: RECORDING,
  [STAGED]: RECORDING,
  [FINISHED]: /^[0-9a-f]{24}\.json(\.part)?$/,
  traces: /^seed-\d+\.[\w-]+(\.part)?$/,
};

function ownFile(name: string): boolean {
  return FILES.includes(name.replace(/\.part$/, ""));
}

/** Makes the folder of a study; answers what takes it away again if nothing was written. A folder with other things in it is refused. */
export function prepareFolder(out: string): () => void {
  try {
    if (existsSync(out)) {
      const files = readdirSync(out);
      const foreign = files.find((name) => !ownFile(name) && !Object.hasOwn(FOLDERS, name));
      if (foreign !== undefined && !files.includes("manifest.json") && !files.includes(FINISHED))
        throw new ConfigError(
          `${out} is no folder of results (it has ${foreign}, and no manifest.json); give another with --out.`,
        );
    }
    const first = mkdirSync(out, { recursive: true });
    return () => {
      if (first === undefined) return;
      try {
        for (let folder = resolve(out); ; folder = dirname(folder)) {
          rmdirSync(folder);
          if (folder === resolve(first)) return;
        }
      } catch {
        // Something is in it: it stays.
      }
    };
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(
      `The folder ${out} cannot be made (${(error as NodeJS.ErrnoException).code ?? String(error)}); give another with --out.`,
      { cause: error },
    );
  }
}

/** Removes what a study wrote, but for what `keep` says; `folder` is empty for the files of the top. ConfigError. */
export function prune(out: string, keep: (folder: string, name: string) => boolean): void {
  try {
    for (const name of readdirSync(out)) if (ownFile(name) && !keep("", name)) rmSync(join(out, name));
    for (const [folder, names] of Object.entries(FOLDERS)) {
      const path = join(out, folder);
      if (!existsSync(path)) continue;
      const files = readdirSync(path);
      const gone = files.filter((name) => names.test(name) && !keep(folder, name));
      for (const name of gone) rmSync(join(path, name));
      if (gone.length === files.length) rmdirSync(path);
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (typeof code !== "string") throw error;
    throw new ConfigError(
      `What an earlier study left in ${out} cannot be removed (${code}); give another with --out.`,
      {
        cause: error,
      },
    );
  }
}
