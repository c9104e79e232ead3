/**
 * Fetches one file of one Debian package into a cache and answers its path: no root, nothing installed.
 *
 * Design: `CACHE/debian/SUITE-ARCH/PACKAGE/` keeps the package, the files taken from it and `record.json` with the size
 * and SHA-256 of each. A file appears by rename only, after it was verified; a cached file is checked against its record
 * each time it is handed out, and taken from the package again (or the package from the mirror) where it differs.
 *
 * Invariants: a hit needs no network and no APT; the same cache answers the same version until `refresh` is asked for.
 */
import { createHash } from "node:crypto";
import { createReadStream, mkdirSync, writeFileSync } from "node:fs";
import {
  type FileHandle,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { homedir } from "node:os";
import { basename, dirname, join, posix } from "node:path";
import { PrivateApt } from "./apt.ts";
import { type DebEntry, normalPath, walkDeb } from "./deb.ts";
import { DebianError } from "./errors.ts";
import { lock } from "./lock.ts";
import { type DebianMirror, pickMirror, readMachineSources } from "./sources.ts";

/** Which package. */
export interface DebianPackageRequest {
  /** Debian's codename: bookworm, trixie. */
  readonly suite: string;
  /** Debian's architecture; default amd64. */
  readonly arch?: string;
  readonly package: string;
  /** With a metapackage: the package meant is its first dependency that this pattern matches (`*` for any characters). */
  readonly dependency?: string;
}

/** Which file of which package. */
export interface DebianFileRequest extends DebianPackageRequest {
  /** Path inside the package, `*` for any characters but `/`; of several the first in order of names. */
  readonly file: string;
}

/** Where from and where to. */
export interface DebianFetchOptions {
  /** Default: $XDG_CACHE_HOME/hookvisor, else ~/.cache/hookvisor. */
  readonly cacheDir?: string | undefined;
  /** URI of a Debian mirror; default $HOOKVISOR_DEBIAN_MIRROR, else the one in /etc/apt. */
  readonly mirror?: string | undefined;
  /** APT's configuration folder to take mirror and key from; default /etc/apt. */
  readonly etcApt?: string | undefined;
  /** Fetch the newest version even if one is in the cache. */
  readonly refresh?: boolean;
  /** Told what happens, one short line each, when the network is about to be used. */
  readonly onProgress?: ((line: string) => void) | undefined;
  /** Told a few times a second how many bytes of how many of a package are there. */
  readonly onBytes?: ((done: number, of: number, name: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface Content {
  readonly size: number;
  readonly sha256: string;
}

interface PackageRecord {
  /** The package's file name without `.deb`: name, version, architecture. */
  readonly name: string;
  readonly deb: Content;
  readonly files: Readonly<Record<string, Content>>;
}

/** The folder that everything fetched is kept in. */
export function defaultCacheDir(env: NodeJS.ProcessEnv = process.env): string {
  const xdg = env["XDG_CACHE_HOME"];
  return join(xdg?.startsWith("/") ? xdg : join(homedir(), ".cache"), "hookvisor");
}

/** The Debian mirror of this machine, or the one that is asked for, with the key that the machine trusts for Debian. */
export function machineMirror(options: DebianFetchOptions = {}): DebianMirror {
  const found = pickMirror(readMachineSources(options.etcApt));
  const uri = options.mirror ?? process.env["HOOKVISOR_DEBIAN_MIRROR"];
  if (uri !== undefined && uri !== "") {
    if (!/^[a-z][a-z0-9+.-]*:\S+$/.test(uri)) throw new DebianError("bad-name", `Not the address of a mirror: ${uri}.`);
    return { uri, signedBy: found?.signedBy ?? null };
  }
  if (found === null) {
    throw new DebianError(
      "no-mirror",
      "No Debian mirror is among this machine's APT sources: name one in HOOKVISOR_DEBIAN_MIRROR, or pass the file itself.",
    );
  }
  return found;
}

/** A pattern with `*` as a regular expression over a whole name. */
function globExpression(pattern: string, star: string): RegExp {
  const parts = pattern.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join(star)}$`);
}

async function contentOf(path: string): Promise<Content> {
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { size, sha256: hash.digest("hex") };
}

/** Whether `path` is there with exactly the recorded content. */
async function matches(path: string, content: Content | undefined): Promise<boolean> {
  if (content === undefined) return false;
  const size = await stat(path)
    .then((s) => (s.isFile() ? s.size : -1))
    .catch(() => -1);
  return size === content.size && (await contentOf(path)).sha256 === content.sha256;
}

const isContent = (value: unknown): value is Content =>
  typeof value === "object" &&
  value !== null &&
  typeof Reflect.get(value, "size") === "number" &&
  typeof Reflect.get(value, "sha256") === "string";

async function readRecord(path: string): Promise<PackageRecord | null> {
  try {
    const value: unknown = JSON.parse(await readFile(path, "utf8"));
    if (typeof value !== "object" || value === null) return null;
    const name: unknown = Reflect.get(value, "name");
    const deb: unknown = Reflect.get(value, "deb");
    const files: unknown = Reflect.get(value, "files");
    if (typeof name !== "string" || !isContent(deb) || typeof files !== "object" || files === null) return null;
    const kept = Object.entries(files).filter((entry): entry is [string, Content] => isContent(entry[1]));
    return { name, deb, files: Object.fromEntries(kept) };
  } catch {
    return null;
  }
}

async function writeAtomically(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.new`;
  await writeFile(temporary, text);
  await rename(temporary, path);
}

/** Takes the file that `file` (with `*`) names out of a .deb into `target`, following links inside the package. */
async function takeFile(deb: string, wanted: DebEntry, target: string): Promise<Content> {
  await mkdir(dirname(target), { recursive: true });
  const temporary = `${target}.${process.pid}.new`;
  const out = await open(temporary, "w");
  const hash = createHash("sha256");
  let size = 0;
  try {
    await walkDeb(deb, (entry) => {
      if (entry.type !== "file" || entry.path !== wanted.path) return null;
      return async (chunk) => {
        hash.update(chunk);
        size += chunk.length;
        await out.writeFile(chunk);
      };
    });
    await out.close();
    if (size !== wanted.size)
      throw new DebianError("damaged", `The Debian package is damaged: ${wanted.path} changed.`);
    await rename(temporary, target);
  } catch (error) {
    await out.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw error;
  }
  return { size, sha256: hash.digest("hex") };
}

/** The entry that a pattern means: links are followed inside the package. */
export async function findInDeb(deb: string, pattern: string): Promise<{ asked: string; entry: DebEntry } | null> {
  const entries = new Map<string, DebEntry>();
  await walkDeb(deb, (entry) => {
    entries.set(entry.path, entry);
    return null;
  });
  const expression = globExpression(normalPath(pattern), "[^/]*");
  const asked = [...entries.keys()]
    .filter((path) => expression.test(path) && entries.get(path)?.type !== "folder")
    .sort()[0];
  if (asked === undefined) return null;
  let entry = entries.get(asked);
  for (let hops = 0; entry !== undefined && entry.type !== "file"; hops++) {
    if (hops === 8 || entry.link === "") return null;
    const link = entry.link;
    entry = entries.get(
      normalPath(
        entry.type === "hardlink" || link.startsWith("/") ? link : posix.join(posix.dirname(entry.path), link),
      ),
    );
  }
  return entry === undefined ? null : { asked, entry };
}

function checkName(what: string, value: string, form: RegExp): void {
  if (!form.test(value))
    throw new DebianError("bad-name", `Not the name of a Debian ${what}: ${JSON.stringify(value)}.`);
}

/** Beginning of the names of folders that downloads go to until they are whole; what an interrupted one left is removed. */
const PARTIAL = "download-";

/** The cache's places for one package. */
interface PackagePlaces {
  readonly request: DebianPackageRequest;
  readonly arch: string;
  /** Folder of the private APT state that this package comes through. */
  readonly apt: string;
  readonly folder: string;
  readonly record: string;
  readonly deb: string;
}

function placesOf(request: DebianPackageRequest, options: DebianFetchOptions): PackagePlaces {
  const arch = request.arch ?? "amd64";
  checkName("suite", request.suite, /^[a-z][a-z0-9-]*$/);
  checkName("architecture", arch, /^[a-z0-9-]+$/);
  checkName("package", request.package, /^[a-z0-9][a-z0-9+.-]*$/);
  const home = join(options.cacheDir ?? defaultCacheDir(), "debian", `${request.suite}-${arch}`);
  const folder = join(
    home,
    request.dependency === undefined
      ? request.package
      : `${request.package}+${request.dependency.replace(/[^a-z0-9+.-]/g, "_")}`,
  );
  const [record, deb] = [join(folder, "record.json"), join(folder, "package.deb")];
  return { request, arch, apt: join(home, "apt"), folder, record, deb };
}

/** Does `work` while this process holds the private APT state, with the package in the cache and verified. */
async function withPackage<T>(
  places: PackagePlaces,
  options: DebianFetchOptions,
  work: (record: PackageRecord) => Promise<T>,
): Promise<T> {
  const { request, arch } = places;
  const mirror = machineMirror(options);
  const apt = await PrivateApt.open(places.apt, { suite: request.suite, arch, mirror }, options.signal);
  try {
    for (const name of await readdir(places.folder).catch(() => []))
      if (name.startsWith(PARTIAL)) await rm(join(places.folder, name), { recursive: true, force: true });
    let record = await readRecord(places.record);
    if (options.refresh === true || record === null || !(await matches(places.deb, record.deb))) {
      options.onProgress?.(`Fetching ${request.package} of Debian ${request.suite} (${arch})`);
      record = await downloadPackage(apt, request, places, options);
      await writeAtomically(places.record, JSON.stringify(record, null, 2));
    }
    return await work(record);
  } finally {
    await apt.close();
  }
}

/**
 * Fetches a whole Debian package.
 * @returns the path of the .deb in the cache: for `walkDeb` and `unpackDeb`; do not write to it
 * @throws DebianError with one sentence that says what to do
 */
export async function fetchDebianPackage(
  request: DebianPackageRequest,
  options: DebianFetchOptions = {},
): Promise<string> {
  const places = placesOf(request, options);
  const record = options.refresh === true ? null : await readRecord(places.record);
  if (record !== null && (await matches(places.deb, record.deb))) return places.deb;
  return withPackage(places, options, async () => places.deb);
}

/** A package that is in the cache. */
export interface CachedPackage {
  /** Name, version, architecture, as in the name of its file. */
  readonly name: string;
  readonly sha256: string;
  /** Bytes that it takes in the cache, files taken from it included. */
  readonly size: number;
}

/** What the cache has of a package; null: nothing. Nothing is verified. */
export async function cachedPackage(
  request: DebianPackageRequest,
  options: DebianFetchOptions = {},
): Promise<CachedPackage | null> {
  const record = await readRecord(placesOf(request, options).record);
  if (record === null) return null;
  const size = Object.values(record.files).reduce((sum, file) => sum + file.size, record.deb.size);
  return { name: record.name, sha256: record.deb.sha256, size };
}

/** Removes a package from the cache. */
export async function forgetPackage(request: DebianPackageRequest, options: DebianFetchOptions = {}): Promise<void> {
  const places = placesOf(request, options);
  const unlock = await lock(join(places.apt, "lock"), options.signal);
  try {
    await rm(places.folder, { recursive: true, force: true });
  } finally {
    await unlock();
  }
}

/**
 * The packages that installing some on an empty machine would bring, themselves included, without what is only recommended.
 * @returns requests for `fetchDebianPackage`
 */
export async function packagesWithDependencies(
  target: { readonly suite: string; readonly arch?: string; readonly packages: readonly string[] },
  options: DebianFetchOptions = {},
): Promise<readonly DebianPackageRequest[]> {
  const { suite, arch = "amd64", packages } = target;
  const [first] = packages;
  if (first === undefined) return [];
  const all = packages.map((name) => placesOf({ suite, arch, package: name }, options));
  const mirror = machineMirror(options);
  const apt = await PrivateApt.open(all[0]!.apt, { suite, arch, mirror }, options.signal);
  try {
    await apt.update(options.refresh === true);
    return (await apt.closure(packages)).map((name) => ({ suite, arch, package: name }));
  } finally {
    await apt.close();
  }
}

/**
 * Fetches a file of a Debian package.
 * @returns the path of the file in the cache; do not write to it
 * @throws DebianError with one sentence that says what to do
 */
export async function fetchDebianFile(request: DebianFileRequest, options: DebianFetchOptions = {}): Promise<string> {
  const places = placesOf(request, options);
  const pattern = normalPath(request.file);
  checkName("package's file", pattern, /^[^\p{Cc}]+$/u);
  const expression = globExpression(pattern, "[^/]*");
  const inCache = (path: string): string => join(places.folder, "files", path);

  const hit = async (): Promise<string | null> => {
    const record = await readRecord(places.record);
    if (record === null) return null;
    const path = Object.keys(record.files)
      .filter((name) => expression.test(name))
      .sort()[0];
    if (path === undefined || !(await matches(inCache(path), record.files[path]))) return null;
    return inCache(path);
  };

  const cached = options.refresh === true ? null : await hit();
  if (cached !== null) return cached;
  return withPackage(places, options, async (record) => {
    const found = await findInDeb(places.deb, pattern);
    if (found === null) throw new DebianError("no-file", `Debian's ${record.name} has no file ${pattern}.`);
    const content = await takeFile(places.deb, found.entry, inCache(found.asked));
    const files = { ...record.files, [found.asked]: content };
    await writeAtomically(places.record, JSON.stringify({ ...record, files }, null, 2));
    return inCache(found.asked);
  });
}

/**
 * Unpacks the files of a .deb under `prefix` into `folder`, keeping their paths below the prefix; links and devices are
 * left out, so that nothing is written outside `folder`.
 * @returns how many files were written
 */
export async function unpackDeb(deb: string, folder: string, prefix = ""): Promise<number> {
  const under = normalPath(prefix);
  let count = 0;
  let file: FileHandle | null = null;
  try {
    await walkDeb(deb, (entry) => {
      if (entry.type !== "file" || !(under === "" || entry.path.startsWith(`${under}/`))) return null;
      const target = join(folder, entry.path.slice(under === "" ? 0 : under.length + 1));
      let left = entry.size;
      count += 1;
      if (left === 0) {
        mkdirSync(dirname(target), { recursive: true });
        writeFileSync(target, "");
        return null;
      }
      return async (chunk) => {
        if (file === null) {
          await mkdir(dirname(target), { recursive: true });
          file = await open(target, "w");
        }
        await file.writeFile(chunk);
        left -= chunk.length;
        if (left > 0) return;
        await file.close();
        file = null;
      };
    });
  } finally {
    await (file as FileHandle | null)?.close();
  }
  return count;
}

/** Downloads the request's package; the files of an older version go. */
async function downloadPackage(
  apt: PrivateApt,
  request: DebianPackageRequest,
  { folder, deb }: PackagePlaces,
  { onBytes }: DebianFetchOptions,
): Promise<PackageRecord> {
  await mkdir(folder, { recursive: true });
  const fetchOnce = async (fresh: boolean): Promise<PackageRecord> => {
    await apt.update(fresh);
    const expression = request.dependency === undefined ? null : globExpression(request.dependency, ".*");
    const name = expression === null ? request.package : await apt.dependency(request.package, expression);
    const temporary = await mkdtemp(join(folder, PARTIAL));
    try {
      const downloaded = await apt.download(name, temporary, (done, of) => onBytes?.(done, of, name));
      const content = await contentOf(downloaded);
      await rm(join(folder, "files"), { recursive: true, force: true });
      await rename(downloaded, deb);
      return { name: decodeURIComponent(basename(downloaded, ".deb")), deb: content, files: {} };
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
  };
  try {
    return await fetchOnce(false);
  } catch (error) {
    // A list that is days old names versions that the mirror has replaced: once more with a new one.
    if (!(error instanceof DebianError) || !["offline", "no-package"].includes(error.code)) throw error;
    return await fetchOnce(true);
  }
}
