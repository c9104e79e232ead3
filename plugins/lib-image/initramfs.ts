/**
 * An initramfs out of Debian packages: their files in one tree, the kernel modules that are wanted with all they depend on, and a small init.
 *
 * Design: /bin, /sbin and /lib are links into /usr, as Debian has it, so that packages of before and after that change fit together; manuals,
 * documentation and translations are left out. Nothing of a package is run.
 * Invariant: equal packages and options make an equal archive.
 */
import { ImageError } from "hookvisor";
import { type DebEntry, walkDeb } from "../lib-debian/index.ts";
import { CpioTree } from "./cpio.ts";
import { decompress } from "./decompress.ts";
import { INIT, PROFILE, UDHCPC_SCRIPT } from "./init.ts";
import { loadOrder, type ModuleInfo, moduleInfo, moduleName } from "./modules.ts";

/** A file to put in. */
export interface InitramfsFile {
  /** Where, without a leading slash. */
  readonly path: string;
  readonly content: Uint8Array | string;
  /** Permission bits; default 0644. */
  readonly mode?: number;
}

/** What goes in. */
export interface InitramfsOptions {
  /** Paths of .deb files whose files go in; busybox-static (or a busybox of another package) is among them, unless `init` needs none. */
  readonly packages: readonly string[];
  /** Path of the .deb of the kernel, for modules. */
  readonly kernel?: string | undefined;
  /** Modules that init loads, by name; one that is built into the kernel is left out. */
  readonly modules?: readonly string[] | undefined;
  /** Modules that are there for modprobe. */
  readonly moreModules?: readonly string[] | undefined;
  /** More files; they win over those of packages. */
  readonly files?: readonly InitramfsFile[] | undefined;
  /** /init; default: a shell on the console with network (init.ts). */
  readonly init?: string | undefined;
  readonly hostname?: string | undefined;
  /** What is printed before the shell's first prompt. */
  readonly banner?: string | undefined;
}

/** Folders of packages that no guest needs. */
const LEFT_OUT =
  /^usr\/share\/(?:doc|doc-base|man|info|locale|lintian|bug|menu|pixmaps|applications|initramfs-tools)\//;
/** Top-level folders that are links into usr. */
const MERGED = /^(?:bin|sbin|lib|lib32|lib64|libx32)(?=\/|$)/;
const MODULE = /^usr\/lib\/modules\/([^/]+)\/(.*\.ko(?:\.(?:gz|xz|zst))?)$/;

const merged = (path: string): string => path.replace(MERGED, (top) => `usr/${top}`);

/** Walks a package with the content of each file that `wants` it. */
async function eachEntry(
  deb: string,
  wants: (entry: DebEntry, path: string) => boolean,
  take: (entry: DebEntry, path: string, content: Uint8Array) => void,
): Promise<void> {
  let pending: (() => void) | null = null;
  const flush = (): void => {
    pending?.();
    pending = null;
  };
  await walkDeb(deb, (entry) => {
    flush();
    const path = merged(entry.path);
    if (path === "" || !wants(entry, path)) return null;
    const parts: Uint8Array[] = [];
    pending = () => take(entry, path, Buffer.concat(parts));
    return (chunk) => void parts.push(chunk.slice());
  });
  flush();
}

async function putPackage(tree: CpioTree, deb: string): Promise<void> {
  const hard: { readonly path: string; readonly target: string }[] = [];
  await eachEntry(
    deb,
    (_entry, path) => !LEFT_OUT.test(`${path}/`),
    (entry, path, content) => {
      if (entry.type === "folder") {
        if (tree.get(path) === undefined) tree.put(path, { type: "folder", mode: entry.mode });
      } else if (entry.type === "file") tree.put(path, { type: "file", content, mode: entry.mode });
      else if (entry.type === "symlink") {
        // base-files has the links of merged folders.
        if (
          tree.get(path)?.type !== "folder" &&
          !(MERGED.test(entry.path) && merged(entry.path) === `usr/${entry.path}` && !entry.path.includes("/"))
        )
          tree.put(path, { type: "link", target: entry.link });
      } else if (entry.type === "hardlink") hard.push({ path, target: merged(entry.link) });
    },
  );
  for (const { path, target } of hard) {
    const original = tree.get(target);
    if (original !== undefined) tree.put(path, original);
  }
}

/** Puts modules in, with modules.dep and modules.alias for modprobe; answers the paths to load, in order. */
async function putModules(
  tree: CpioTree,
  kernel: string,
  load: readonly string[],
  more: readonly string[],
): Promise<readonly string[]> {
  const packed = new Map<string, { readonly path: string; readonly bytes: Uint8Array }>();
  let version = "";
  // What a module depends on is known once it is read, and packages are read from front to back: so all are read, once.
  await eachEntry(
    kernel,
    (entry, path) => entry.type === "file" && MODULE.test(path),
    (_entry, path, content) => {
      version = MODULE.exec(path)?.[1] ?? version;
      packed.set(moduleName(path), { path, bytes: content });
    },
  );
  const unpacked = new Map<string, { readonly path: string; readonly bytes: Uint8Array; readonly info: ModuleInfo }>();
  const infoOf = async (name: string): Promise<ModuleInfo | null> => {
    const known = unpacked.get(name);
    if (known !== undefined) return known.info;
    const module = packed.get(name);
    if (module === undefined) return null;
    const bytes = await decompress(module.bytes, `Module ${module.path}`);
    const info = moduleInfo(bytes);
    unpacked.set(name, { path: module.path.replace(/\.ko\..*$/, ".ko"), bytes, info });
    return info;
  };
  const order = await loadOrder([...load, ...more], infoOf);
  const folder = `usr/lib/modules/${version}`;
  const below = (name: string): string => unpacked.get(name)!.path.slice(folder.length + 1);
  const dependencies: string[] = [];
  const aliases: string[] = [];
  for (const name of order) {
    const { path, bytes, info } = unpacked.get(name)!;
    tree.put(path, { type: "file", content: bytes });
    const all = (await loadOrder([name], infoOf)).filter((one) => one !== name).reverse();
    dependencies.push(`${below(name)}:${all.map((one) => ` ${below(one)}`).join("")}\n`);
    for (const alias of info.aliases) aliases.push(`alias ${alias} ${name}\n`);
  }
  if (order.length > 0) {
    tree.put(`${folder}/modules.dep`, { type: "file", content: dependencies.join("") });
    tree.put(`${folder}/modules.alias`, { type: "file", content: aliases.join("") });
  }
  return (await loadOrder(load, infoOf)).map((name) => `/${unpacked.get(name)!.path}`);
}

/**
 * Makes an initramfs: a cpio archive that is not packed further (unpacking would cost the guest more than reading).
 * @throws DebianError, ImageError: a package is damaged; ImageError: there is no busybox for the default init
 */
export async function makeInitramfs(options: InitramfsOptions): Promise<Uint8Array> {
  const tree = new CpioTree();
  for (const folder of [
    "dev",
    "etc",
    "mnt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr/bin",
    "usr/sbin",
    "usr/lib",
    "usr/lib64",
    "var/log",
    "var/tmp",
  ])
    tree.put(folder, { type: "folder" });
  for (const folder of ["bin", "sbin", "lib", "lib64"]) tree.put(folder, { type: "link", target: `usr/${folder}` });
  tree.put("var/run", { type: "link", target: "/run" });
  // The kernel opens it for init before anything is mounted.
  tree.put("dev/console", { type: "device", kind: "character", major: 5, minor: 1 });
  const hostname = options.hostname ?? "hookvisor";
  tree.put("etc/hostname", { type: "file", content: `${hostname}\n` });
  tree.put("etc/hosts", { type: "file", content: `127.0.0.1 localhost ${hostname}\n::1 localhost\n` });
  tree.put("etc/passwd", {
    type: "file",
    content: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
  });
  tree.put("etc/group", { type: "file", content: "root:x:0:\nnogroup:x:65534:\n" });
  // What mount tries, so that the module of a file system is loaded when a disk is mounted without its type.
  tree.put("etc/filesystems", { type: "file", content: "ext4\next2\nvfat\niso9660\n" });
  tree.put("etc/profile", { type: "file", content: PROFILE });
  tree.put("etc/udhcpc.script", { type: "file", content: UDHCPC_SCRIPT, mode: 0o755 });
  for (const deb of options.packages) await putPackage(tree, deb);
  if (options.kernel !== undefined) {
    const paths = await putModules(tree, options.kernel, options.modules ?? [], options.moreModules ?? []);
    if (paths.length > 0) tree.put("etc/modules", { type: "file", content: paths.map((path) => `${path}\n`).join("") });
  }
  if (options.banner !== undefined) tree.put("etc/issue", { type: "file", content: options.banner });
  tree.put("init", { type: "file", content: options.init ?? INIT, mode: 0o755 });
  for (const { path, content, mode } of options.files ?? [])
    tree.put(merged(path), { type: "file", content, mode: mode ?? 0o644 });
  if (options.init === undefined && tree.get("usr/bin/busybox") === undefined)
    throw new ImageError(
      "None of the Debian packages has a busybox, which this image's init needs; give busybox-static.",
    );
  return tree.archive();
}
