/**
 * A private APT state: APT's own lists, cache, sources and dpkg status in a folder of ours, so that packages of any suite
 * and architecture can be looked up and downloaded without root and without touching the machine's state.
 *
 * Design: one folder per suite and architecture, described by one configuration file that APT_CONFIG names. The machine's
 * mirror, keys and transport settings (proxy, time-outs) are carried over; its hooks are not. APT verifies signatures and hashes.
 *
 * Invariants: nothing outside the folder is written; one process works in a folder at a time (a lock file that names it).
 */
import { type ExecFileException, execFile } from "node:child_process";
import { mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DebianError } from "./errors.ts";
import { lock } from "./lock.ts";
import type { DebianMirror } from "./sources.ts";

/** What a private state is for. */
export interface AptTarget {
  readonly suite: string;
  readonly arch: string;
  readonly mirror: DebianMirror;
}

/** How long package lists are used before they are fetched again, in ms. */
const LISTS_FRESH_FOR = 7 * 24 * 3600_000;
/** One run of APT may take this long, in ms. */
const APT_TIMEOUT = 15 * 60_000;

interface Ran {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

/** The settings of the machine's APT that say how to reach a mirror; none of them names a hook or a path to write. */
const TRANSPORT = /^Acquire::(https?|ftp|Retries|ForceIPv4|ForceIPv6|Check-Valid-Until|Check-Date)\b/i;

function run(command: string, args: readonly string[], config: string | null, options: RunOptions): Promise<Ran> {
  const env: NodeJS.ProcessEnv = { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" };
  delete env["APT_CONFIG"];
  if (config !== null) env["APT_CONFIG"] = config;
  return new Promise((resolve, reject) => {
    const settings = {
      env,
      cwd: options.cwd ?? "/",
      timeout: APT_TIMEOUT,
      maxBuffer: 64 << 20,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    };
    execFile(command, [...args], settings, (error: ExecFileException | null, stdout, stderr) => {
      if (error === null) resolve({ stdout, stderr, code: 0 });
      else if (error.code === "ENOENT") {
        reject(
          new DebianError(
            "no-apt",
            "There is no APT on this machine to fetch Debian's packages with: pass the file itself.",
          ),
        );
      } else if (error.name === "AbortError")
        reject(new DebianError("aborted", "Fetching the Debian package was aborted."));
      else resolve({ stdout, stderr, code: typeof error.code === "number" ? error.code : 1 });
    });
  });
}

interface RunOptions {
  readonly cwd?: string;
  readonly signal?: AbortSignal | undefined;
}

/** The first error that APT printed, without its prefix; else its last line. */
function aptComplaint(stderr: string): string {
  const lines = stderr.split("\n").filter((line) => line.trim() !== "");
  const chosen = lines.find((line) => line.startsWith("E:")) ?? lines.at(-1) ?? "no reason given";
  return chosen
    .replace(/^[EW]: */, "")
    .trim()
    .replace(/\.$/, "");
}

const quoted = (value: string): string => `"${value.replaceAll('"', "")}"`;

/** A private APT state in `folder`, held by this process until `close`. */
export class PrivateApt {
  readonly #folder: string;
  readonly #target: AptTarget;
  readonly #signal: AbortSignal | undefined;
  readonly #unlock: () => Promise<void>;

  private constructor(folder: string, target: AptTarget, signal: AbortSignal | undefined, unlock: () => Promise<void>) {
    this.#folder = folder;
    this.#target = target;
    this.#signal = signal;
    this.#unlock = unlock;
  }

  /** Makes or reuses the state in `folder`; waits for another process that uses it. */
  static async open(folder: string, target: AptTarget, signal?: AbortSignal): Promise<PrivateApt> {
    await mkdir(folder, { recursive: true });
    const unlock = await lock(join(folder, "lock"), signal);
    const apt = new PrivateApt(folder, target, signal, unlock);
    try {
      await apt.#configure();
    } catch (error) {
      await unlock();
      throw error;
    }
    return apt;
  }

  close(): Promise<void> {
    return this.#unlock();
  }

  get #config(): string {
    return join(this.#folder, "apt.conf");
  }

  async #configure(): Promise<void> {
    const { suite, arch, mirror } = this.#target;
    const inside = (name: string): string => join(this.#folder, name);
    for (const name of ["etc/sources.list.d", "state/lists/partial", "cache/archives/partial", "log"]) {
      await mkdir(inside(name), { recursive: true });
    }
    await writeFile(inside("state/status"), "");
    const machine = await run("apt-config", ["dump"], null, { signal: this.#signal });
    const transport = machine.stdout.split("\n").filter((line) => TRANSPORT.test(line) && !line.endsWith(' "";'));
    const config = [
      `Dir::State ${quoted(`${inside("state")}/`)};`,
      `Dir::State::status ${quoted(inside("state/status"))};`,
      `Dir::Cache ${quoted(`${inside("cache")}/`)};`,
      `Dir::Log ${quoted(`${inside("log")}/`)};`,
      `Dir::Etc ${quoted(`${inside("etc")}/`)};`,
      'Dir::Etc::trusted "/etc/apt/trusted.gpg";',
      'Dir::Etc::trustedparts "/etc/apt/trusted.gpg.d/";',
      `APT::Architecture ${quoted(arch)};`,
      `APT::Architectures { ${quoted(arch)}; };`,
      // The cache belongs to this user: there is nobody to drop privileges to.
      'APT::Sandbox::User "root";',
      'APT::Update::Error-Mode "any";',
      'Acquire::Languages "none";',
      'Acquire::Retries "2";',
      ...transport,
      "",
    ];
    await writeFile(this.#config, config.join("\n"));
    const key = mirror.signedBy === null ? [] : [`Signed-By: ${mirror.signedBy.split("\n").join("\n ")}`];
    const source = ["Types: deb", `URIs: ${mirror.uri}`, `Suites: ${suite}`, "Components: main", ...key, ""].join("\n");
    const path = inside("etc/sources.list.d/debian.sources");
    if ((await readFile(path, "utf8").catch(() => "")) !== source) {
      await rm(inside("updated"), { force: true });
      await writeFile(path, source);
    }
  }

  /** Fetches the package lists, unless they are fresh. */
  async update(force = false): Promise<void> {
    const stamp = join(this.#folder, "updated");
    const age =
      Date.now() -
      (await stat(stamp)
        .then((s) => s.mtimeMs)
        .catch(() => 0));
    if (!force && age < LISTS_FRESH_FOR) return;
    const ran = await run("apt-get", ["-q", "update"], this.#config, { signal: this.#signal });
    if (ran.code !== 0) {
      const { suite, arch } = this.#target;
      throw new DebianError(
        "offline",
        `APT could not fetch the package list of Debian ${suite} (${arch}), so pass the file itself: ${aptComplaint(ran.stderr)}.`,
      );
    }
    await writeFile(stamp, "");
  }

  /** The first dependency of `name` that `pattern` matches: the real package behind a metapackage. */
  async dependency(name: string, pattern: RegExp): Promise<string> {
    const ran = await run("apt-cache", ["show", "--no-all-versions", name], this.#config, { signal: this.#signal });
    const depends = /^Depends: (.*)$/m.exec(ran.stdout)?.[1] ?? "";
    for (const choice of depends.split(/[,|]/)) {
      const found = choice.trim().split(/[\s(:]/)[0] ?? "";
      if (pattern.test(found)) return found;
    }
    throw this.#missing(name);
  }

  #missing(name: string): DebianError {
    const { suite, arch } = this.#target;
    return new DebianError("no-package", `Debian ${suite} (${arch}) has no package of that name and kind: ${name}.`);
  }

  /**
   * Downloads `name` into `folder`; answers the .deb's path. APT has checked its hash against the signed list.
   * @param onBytes told a few times a second how many bytes of how many there are
   */
  async download(name: string, folder: string, onBytes?: (done: number, of: number) => void): Promise<string> {
    const shown = await run("apt-cache", ["show", "--no-all-versions", name], this.#config, { signal: this.#signal });
    if (!/^Package: /m.test(shown.stdout)) throw this.#missing(name);
    const size = Number(/^Size: (\d+)$/m.exec(shown.stdout)?.[1] ?? 0);
    const poll = setInterval(() => void folderSize(folder).then((done) => onBytes?.(Math.min(done, size), size)), 100);
    const ran = await run("apt-get", ["-q", "download", name], this.#config, {
      cwd: folder,
      signal: this.#signal,
    }).finally(() => clearInterval(poll));
    const deb = (await readdir(folder)).find((file) => file.endsWith(".deb"));
    if (ran.code !== 0 || deb === undefined) {
      throw new DebianError(
        "offline",
        `APT could not download ${name}, so pass the file itself: ${aptComplaint(ran.stderr)}.`,
      );
    }
    onBytes?.(size, size);
    return join(folder, deb);
  }

  /**
   * The packages that installing `names` on an empty machine would bring, themselves included (no Recommends), in APT's order.
   * Names that come with an architecture or a version lose them.
   */
  async closure(names: readonly string[]): Promise<readonly string[]> {
    const ran = await run(
      "apt-get",
      ["-s", "-q", "-o", "Debug::NoLocking=1", "--no-install-recommends", "install", ...names],
      this.#config,
      { signal: this.#signal },
    );
    const found = [...ran.stdout.matchAll(/^Inst ([^\s:]+)/gm)].map((match) => match[1] ?? "");
    if (ran.code === 0 && found.length > 0) return found;
    const { suite, arch } = this.#target;
    throw new DebianError(
      "no-package",
      `Debian ${suite} (${arch}) cannot bring ${names.join(", ")}: ${aptComplaint(ran.stderr)}.`,
    );
  }
}

/** Bytes of the files in a folder; what vanishes meanwhile counts nothing. */
async function folderSize(folder: string): Promise<number> {
  let size = 0;
  for (const name of await readdir(folder).catch(() => []))
    size += await stat(join(folder, name)).then(
      (s) => s.size,
      () => 0,
    );
  return size;
}
