/**
 * A userland of Debian's own packages in a guest: Python's own test modules, and programs whose output was recorded on a real processor
 * (test/fixtures/userland). Shared by the short and the long form.
 *
 * Design: the packages with all they depend on become an image by the project's own recipe, kept in the user's cache beside those of `hookvisor images`;
 * the fixtures are a second archive behind its ramdisk, so that changing one makes no new image.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError } from "hookvisor";
import { expect, it } from "vitest";
import { defaultCacheDir } from "../../plugins/lib-debian/index.ts";
import { CpioTree } from "../../plugins/lib-image/index.ts";
import { readyImage } from "../../plugins/toolstack-images/build.ts";
import { CATALOGUE, type ImageRecipe } from "../../plugins/toolstack-images/catalogue.ts";
import { Progress } from "../../plugins/toolstack-images/progress.ts";
import { ImageStore, type ReadyImage } from "../../plugins/toolstack-images/store.ts";
import { hookvisor, PROJECT } from "../tools/hookvisor-run.ts";

const FIXTURES = join(PROJECT, "test", "fixtures", "userland");
/** Making the image may download 40 MB. */
const IMAGE_TIMEOUT = 600_000;

/** Debian 12's cloud kernel with Python 3.11, its test suite, bash, coreutils, OpenSSL and perl. */
function recipe(): ImageRecipe {
  const debian = CATALOGUE.find(({ name }) => name === "debian")!;
  return {
    ...debian,
    name: "test-userland",
    summary: "Debian 12's userland for tests",
    ramdisk: {
      packages: ["busybox-static", "libpython3.11-testsuite", "bash", "coreutils", "openssl", "perl-base"],
      dependencies: true,
      modules: [],
      moreModules: [],
      hostname: "userland",
      banner: "",
    },
    // The unpacked ramdisk is 98 MB and is there twice while it is unpacked; the largest test (zlib's) takes 60 MB.
    memory: 512,
  };
}

/** What a part said and how it ended. */
export interface PartResult {
  readonly name: string;
  readonly status: number;
  /** Guest seconds. */
  readonly seconds: number;
  readonly output: string;
}

/** Boots the guest and runs parts of the fixtures' run.sh there; `timeout` in host milliseconds. */
async function runParts(
  image: ReadyImage,
  parts: readonly string[],
  vcpus: number,
  timeout: number,
): Promise<PartResult[]> {
  const folder = mkdtempSync(join(tmpdir(), "hookvisor-userland-"));
  try {
    const files = new CpioTree();
    for (const name of readdirSync(FIXTURES))
      files.put(`root/userland/${name}`, { type: "file", content: readFileSync(join(FIXTURES, name)) });
    const ramdisk = join(folder, "initrd.cpio");
    writeFileSync(ramdisk, Buffer.concat([readFileSync(image.ramdisk!), files.archive()]));
    const script = join(folder, "script");
    const lines = [`bash /root/userland/run.sh ${parts.join(" ")}`, "poweroff"];
    writeFileSync(script, lines.map((line) => `expect root@userland:\nsend ${line}\\r\n`).join(""));
    const { memory, extra } = recipe();
    const args = ["run", "--kernel", image.kernel, "--ramdisk", ramdisk, "--memory", String(memory), "--extra"];
    const options = ["--vcpus", String(vcpus), "--input", script, "--timeout", `${timeout / 1000}s`];
    const ran = await hookvisor([...args, `${extra} quiet`, ...options], { timeout: timeout + 10_000 });
    const results = [...ran.stdout.matchAll(/^=== (\w+)\n(.*?)^=== status (\d+), (\d+) s\n/gms)].map(
      ([, name, output, status, seconds]): PartResult => ({
        name: name!,
        output: output!,
        status: Number(status),
        seconds: Number(seconds),
      }),
    );
    expect(
      results.map(({ name }) => name),
      `${ran.stderr}${ran.stdout.slice(-3000)}`,
    ).toEqual(parts);
    expect(ran.stderr).toBe("");
    expect(ran.stdout).not.toMatch(/BUG:|WARNING:|Call Trace|Oops|Kernel panic/);
    expect(ran.code).toBe(0);
    return results;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Why a test of Python's may be left out: it wants the Internet or gigabytes, or is not for this system. */
const REASONS = [
  "Use of the 'urlfetch' resource not enabled",
  "not enough memory: .*",
  "Windows specific(?: test)?",
  "need debug build.*",
  'decimal_point is not ","',
];
const MAY_SKIP = new RegExp(String.raw`^(.*?)(?: \(.*\))? \.\.\. skipped ["'](${REASONS.join("|")})["']$`);

/** How many tests each of Python's modules has in Debian 12; updates may bring more. */
const TESTS: Readonly<Record<string, number>> = {
  test_math: 74,
  test_struct: 37,
  test_hashlib: 77,
  test_zlib: 63,
  test_json: 168,
  test_float: 53,
  test_cmath: 32,
  test_strtod: 9,
  test_signal: 55,
  test_threading: 194,
};

/** A module of Python's tests passed whole, but for what may be left out, which is printed. */
function expectTested({ name, status, seconds, output }: PartResult): void {
  expect(status, output).toBe(0);
  const lines = output.trimEnd().split("\n");
  const skipped = lines.filter((line) => line.includes("... skipped "));
  expect(skipped.filter((line) => !MAY_SKIP.test(line))).toEqual([]);
  const count = Number(/^Ran (\d+) tests? in /m.exec(output)?.[1] ?? 0);
  expect(count, output).toBeGreaterThanOrEqual(TESTS[name]!);
  expect(lines.at(-1)).toBe(skipped.length === 0 ? "OK" : `OK (skipped=${skipped.length})`);
  console.info(`${name}: ${count} tests in ${seconds} s of the guest's time, ${skipped.length} left out`);
  for (const line of skipped) console.info(line.replace(MAY_SKIP, "  $1: $2"));
}

/**
 * A test that runs parts in one guest: modules of Python's tests have to pass, the fixtures' programs to print what is in NAME.txt. Where the image
 * cannot be made it is skipped and says why; with CI set it fails.
 * @param timeout host milliseconds for the guest
 */
export function itInUserland(
  name: string,
  parts: readonly string[],
  timeout: number,
  { vcpus = 1 }: { readonly vcpus?: number } = {},
): void {
  it(
    name,
    async (context) => {
      const store = new ImageStore(defaultCacheDir());
      const progress = new Progress(process.stderr, true);
      const image = await readyImage(recipe(), { store, progress, fetch: {} }).catch((error: unknown) => {
        if (!(error instanceof ConfigError) || !["", "false"].includes(process.env["CI"] ?? "")) throw error;
        return context.skip(`the image is not ready: ${error.message}`);
      });
      for (const result of await runParts(image, parts, vcpus, timeout)) {
        if (result.name in TESTS) expectTested(result);
        else {
          expect(result.output, result.name).toBe(readFileSync(join(FIXTURES, `${result.name}.txt`), "utf8"));
          expect(result.status, result.name).toBe(0);
        }
      }
    },
    IMAGE_TIMEOUT + timeout,
  );
}
