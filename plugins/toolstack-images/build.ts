/**
 * Makes an image ready: its packages through APT's cache or from the user's files, its kernel and ramdisk out of them, into the store.
 *
 * Invariants: an image that is ready needs neither network nor APT; two processes that want one image make it once; errors are
 * ConfigErrors (ImageErrors for damaged content) of one sentence that says what else to do.
 */
import { createHash } from "node:crypto";
import { access } from "node:fs/promises";
import { basename } from "node:path";
import { ConfigError } from "hookvisor";
import {
  cachedPackage,
  type DebEntry,
  DebianError,
  type DebianFetchOptions,
  type DebianPackageRequest,
  fetchDebianPackage,
  packagesWithDependencies,
  walkDeb,
} from "../lib-debian/index.ts";
import { INIT, kernelOfDeb, makeInitramfs, PROFILE, UDHCPC_SCRIPT, unpackKernel } from "../lib-image/index.ts";
import { type ImageRecipe, kernelPackage } from "./catalogue.ts";
import type { Progress } from "./progress.ts";
import type { ImageStore, ReadyImage } from "./store.ts";

/** Counts changes in how images are made that the recipe does not show. */
const BUILDER = 1;

/** How an image is made ready. */
export interface BuildOptions {
  readonly store: ImageStore;
  readonly progress: Progress;
  /** For APT's cache. */
  readonly fetch: DebianFetchOptions;
  /** Packages of the user's, instead of APT's. */
  readonly debs?: readonly string[];
  /** The newest packages, even if there is an image. */
  readonly refresh?: boolean;
}

/** Digest of all that decides how an image is made of its packages. */
export function recipeDigest(recipe: ImageRecipe): string {
  const { memory: _memory, extra: _extra, summary: _summary, ...made } = recipe;
  const text = JSON.stringify([BUILDER, made, recipe.ramdisk === null ? null : [INIT, PROFILE, UDHCPC_SCRIPT]]);
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}

/** The image, ready; made where it is not there, not whole, or made by an older recipe. */
export async function readyImage(recipe: ImageRecipe, options: BuildOptions): Promise<ReadyImage> {
  const { store, progress } = options;
  const digest = recipeDigest(recipe);
  const asked = options.refresh === true || (options.debs ?? []).length > 0;
  const there = asked ? null : await store.open(recipe.name, digest);
  if (there !== null) return there;
  try {
    return await store.locked(async () => {
      // Another process may have made it while this one waited.
      const meanwhile = asked ? null : await store.open(recipe.name, digest);
      return meanwhile ?? (await build(recipe, digest, options));
    });
  } catch (error) {
    throw explained(error, recipe);
  } finally {
    progress.finish();
  }
}

/** A package's file with what is known of it. */
interface Deb {
  readonly path: string;
  /** Name, version, architecture. */
  readonly name: string;
  readonly sha256: string;
}

async function build(recipe: ImageRecipe, digest: string, options: BuildOptions): Promise<ReadyImage> {
  const { progress, store } = options;
  const debs = options.debs ?? [];
  const { kernel, others } = debs.length > 0 ? await givenDebs(recipe, debs) : await fetchedDebs(recipe, options);
  progress.step(`making the image ${recipe.name}`);
  const { path, bytes } = await kernelOfDeb(kernel.path);
  // What cannot be unpacked now could not be booted later.
  await unpackKernel(bytes, `Kernel ${path} of ${kernel.name}`);
  const { ramdisk } = recipe;
  const initramfs =
    ramdisk === null
      ? null
      : await makeInitramfs({ ...ramdisk, packages: others.map((deb) => deb.path), kernel: kernel.path });
  return store.put(recipe.name, {
    recipe: digest,
    version: kernel.name.split("_")[1] ?? "",
    packages: [kernel, ...others].map(({ name, sha256 }) => ({ name, sha256 })),
    origin: debs.length > 0 ? "files" : "apt",
    kernel: { name: basename(path), bytes },
    ramdisk: initramfs === null ? null : { name: "initrd.cpio", bytes: initramfs },
  });
}

/** The packages of an image besides its kernel's. */
async function otherPackages(recipe: ImageRecipe, fetch: DebianFetchOptions): Promise<readonly DebianPackageRequest[]> {
  const { suite, arch, ramdisk } = recipe;
  if (ramdisk === null) return [];
  return ramdisk.dependencies === true
    ? packagesWithDependencies({ suite, arch, packages: ramdisk.packages }, fetch)
    : ramdisk.packages.map((name) => ({ suite, arch, package: name }));
}

async function fetchedDebs(recipe: ImageRecipe, options: BuildOptions): Promise<{ kernel: Deb; others: Deb[] }> {
  const { progress } = options;
  const fetch: DebianFetchOptions = {
    ...options.fetch,
    refresh: options.refresh === true,
    onProgress: (line) => progress.step(line.charAt(0).toLowerCase() + line.slice(1)),
    onBytes: (done, of, name) => progress.bytes(done, of, name),
  };
  const get = async (request: DebianPackageRequest): Promise<Deb> => {
    const path = await fetchDebianPackage(request, fetch);
    const cached = await cachedPackage(request, fetch);
    return { path, name: cached?.name ?? request.package, sha256: cached?.sha256 ?? "" };
  };
  const kernel = await get(kernelPackage(recipe));
  const others: Deb[] = [];
  for (const request of await otherPackages(recipe, fetch)) others.push(await get(request));
  return { kernel, others };
}

/** Sorts the packages that a user gave: the one with a kernel, and the others. */
async function givenDebs(recipe: ImageRecipe, paths: readonly string[]): Promise<{ kernel: Deb; others: Deb[] }> {
  let kernel: Deb | null = null;
  const others: Deb[] = [];
  for (const path of paths) {
    await access(path).catch(() => {
      throw new ConfigError(`Package ${path}: there is no such file, or it cannot be read.`);
    });
    const deb: Deb = { path, name: basename(path, ".deb"), sha256: "" };
    if (await holds(path, (entry) => /^(boot\/vmlinu|usr\/lib\/grub-xen\/|usr\/lib\/u-boot\/)/.test(entry.path))) {
      if (kernel !== null)
        throw new ConfigError(`Both ${kernel.path} and ${path} have a kernel in them; give one of the two.`);
      kernel = deb;
    } else others.push(deb);
  }
  if (kernel === null)
    throw new ConfigError(
      `None of the packages given for ${recipe.name} has a kernel in it; give ${recipe.kernel.dependency ?? recipe.kernel.package} too.`,
    );
  return { kernel, others };
}

async function holds(deb: string, test: (entry: DebEntry) => boolean): Promise<boolean> {
  let found = false;
  try {
    await walkDeb(deb, (entry) => {
      if (entry.type === "file" && test(entry)) found = true;
      return found ? "stop" : null;
    });
  } catch (error) {
    if (!(error instanceof DebianError)) throw error;
    throw new ConfigError(`Package ${deb} cannot be used: ${error.message.replace(/^.*?: /, "")}`, { cause: error });
  }
  return found;
}

/** A failure to fetch, with what the user can do instead. */
function explained(error: unknown, recipe: ImageRecipe): unknown {
  if (!(error instanceof DebianError)) return error;
  const { name, kernel, ramdisk } = recipe;
  const wanted = [kernel.dependency ?? kernel.package, ...(ramdisk?.packages ?? [])].map((one) => `${one}_*.deb`);
  const instead =
    `give its packages of Debian ${recipe.suite} ${recipe.arch} (hookvisor images pull ${name} --deb ${wanted.join(" ")}), ` +
    `or boot files of your own (hookvisor run --kernel FILE${ramdisk === null ? "" : " --ramdisk FILE"})`;
  switch (error.code) {
    case "no-apt":
      return new ConfigError(`There is no APT on this machine to make the image ${name} with: ${instead}.`, {
        cause: error,
      });
    case "no-mirror":
      return new ConfigError(
        `This machine's APT knows no Debian mirror to make the image ${name} from: name one in HOOKVISOR_DEBIAN_MIRROR, or ${instead}.`,
        { cause: error },
      );
    case "offline":
      return new ConfigError(
        `${error.message.replace(/, so pass the file itself/, "").replace(/\.$/, "")}; try again, or ${instead}.`,
        { cause: error },
      );
    default:
      return new ConfigError(error.message, { cause: error });
  }
}
