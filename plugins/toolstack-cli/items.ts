/**
 * What `hookvisor run` was given: ITEMs (kernels, config files, names of images), KEY=VALUE settings, options; becomes one draft a domain.
 *
 * An ITEM is a file with a kernel's magic, else a config file, else the name of an image. Later settings win: image or config, KEY=VALUE,
 * options. Invariant: names are unique; a name that comes up again gets -2, -3, ...
 */
import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import { basename } from "node:path";
import { ConfigError, type Hypervisor, type ParamValues, providers, xen } from "hookvisor";
import { addDevices, addSchedulerParam, createDraft, type DomainDraft, KEYS } from "./domain-draft.ts";
import { type ImageContext, provided, type ToolstackHooks } from "./hooks.ts";
import { nearest } from "./units.ts";
import { parseXlArgument, parseXlConfig, type XlSetting } from "./xl-cfg.ts";

/** Settings of the command line: KEY=VALUE, for all domains or for the one of a name. */
interface Override {
  readonly domain: string | null;
  readonly setting: XlSetting;
}

/** What the drafts are made of, besides the items. */
export interface DraftSources {
  readonly hypervisor: Hypervisor;
  readonly toolstack: ToolstackHooks;
  /** Options as settings; they apply to every item. */
  readonly options: readonly XlSetting[];
  /** For images that get their files ready. */
  readonly image: ImageContext;
  /** Tells the user of what is ignored. */
  note(text: string): void;
}

const { XEN_ELFNOTE } = xen;

/** Is it KEY=VALUE or NAME:KEY=VALUE, and no file of that name? */
function parseOverride(argument: string): Override | null {
  const match = /^(?:([^\s:=/]+):)?([A-Za-z_][A-Za-z0-9_-]*)=(.*)$/s.exec(argument);
  if (match === null || existsSync(argument)) return null;
  const [, domain, key = "", value = ""] = match;
  return { domain: domain ?? null, setting: { key, value: parseXlArgument(key, value), place: argument.slice(0, 40) } };
}

/** Makes the drafts, in the order of the items. */
export async function makeDrafts(args: readonly string[], sources: DraftSources): Promise<readonly DomainDraft[]> {
  const overrides: Override[] = [];
  const items: string[] = [];
  for (const argument of args) {
    const override = parseOverride(argument);
    if (override === null) items.push(argument);
    else overrides.push(override);
  }
  const drafts: DomainDraft[] = [];
  const named = (): boolean => [...sources.options, ...overrides.map((o) => o.setting)].some((s) => s.key === "kernel");
  if (items.length === 0) {
    if (!named())
      throw new ConfigError(
        "There is nothing to run: give a kernel, a config file or the name of an image, or --kernel FILE; see hookvisor run --help.",
      );
    drafts.push(createDraft());
  }
  for (const item of items) drafts.push(await draftOf(item, sources));
  for (const draft of drafts) {
    for (const { domain, setting } of overrides) if (domain === null) apply(draft, setting, sources, "argument");
    for (const option of sources.options) apply(draft, option, sources, "argument");
  }
  nameThem(drafts);
  for (const { domain, setting } of overrides) {
    if (domain === null) continue;
    const draft = drafts.find((one) => one.name === domain);
    if (draft === undefined)
      throw new ConfigError(
        `${setting.place}: there is no domain '${domain}'; there are ${drafts.map((d) => d.name).join(", ")}.`,
      );
    apply(draft, setting, sources, "argument");
  }
  return drafts;
}

function nameThem(drafts: readonly DomainDraft[]): void {
  const taken = new Set<string>();
  for (const draft of drafts) {
    const wanted =
      draft.name ??
      (basename(draft.kernel ?? "guest")
        .replace(/\.(elf|bin|gz|img)$/, "")
        .replace(/[\s:/\\]/g, "_")
        .slice(0, 60) ||
        "guest");
    let name = wanted;
    for (let n = 2; taken.has(name); n++) name = `${wanted}-${n}`;
    taken.add(name);
    draft.name = name;
  }
}

async function draftOf(item: string, sources: DraftSources): Promise<DomainDraft> {
  const draft = createDraft();
  if (existsSync(item)) {
    if (statSync(item).isDirectory()) throw new ConfigError(`${item} is a folder; give a kernel or a config file.`);
    if (hasKernelMagic(item)) draft.kernel = item;
    else readConfig(item, draft, sources);
    return draft;
  }
  const image = provided(sources.toolstack.image, item);
  if (image === undefined) {
    const names = providers(sources.toolstack.image).map((p) => p.key);
    const near = nearest(item, names);
    const hint =
      near.length > 0
        ? `perhaps ${near.join(" or ")} is meant`
        : names.length > 0
          ? `the images are ${names.join(", ")}`
          : "no images are known";
    throw new ConfigError(`'${item}' is no file and no image; ${hint}.`);
  }
  draft.name = item;
  for (const [key, value] of Object.entries(await image.settings(sources.image)))
    apply(draft, { key, value, place: `image ${item}` }, sources, "argument");
  for (const device of draft.devices) device.fromImage = true;
  draft.imageExtra = draft.extra;
  draft.extra = null;
  return draft;
}

function readConfig(path: string, draft: DomainDraft, sources: DraftSources): void {
  let source: string;
  try {
    source = readFileSync(path, "utf8");
  } catch (error) {
    throw new ConfigError(`Config ${path} cannot be read (${(error as NodeJS.ErrnoException).code ?? String(error)}).`);
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what tells a binary from a config
  if (/[\x00-\x08\x0e-\x1f]/.test(source.slice(0, 4096)))
    throw new ConfigError(
      `${path} is neither a kernel (no magic of ELF, bzImage or RISC-V Image) nor a text file in xl.cfg's syntax.`,
    );
  for (const setting of parseXlConfig(source, path).values()) apply(draft, setting, sources, "config");
  if (draft.name === null)
    draft.name =
      basename(path)
        .replace(/\.[^.]*$/, "")
        .replace(/[\s:/\\]/g, "_") || null;
}

function apply(draft: DomainDraft, setting: XlSetting, sources: DraftSources, from: "argument" | "config"): void {
  const { key, value, place } = setting;
  const own = KEYS[key];
  if (own !== undefined && Object.hasOwn(KEYS, key)) {
    own(draft, setting);
    return;
  }
  const added = provided(sources.toolstack.configKey, key);
  if (added !== undefined) {
    added.apply(value, draft, place);
    return;
  }
  const { deviceType } = sources.hypervisor.hooks;
  if (providers(deviceType).some((p) => p.key === key)) {
    addDevices(draft, key, setting);
    return;
  }
  if (addSchedulerParam(draft, setting, from)) return;
  unknownKey(setting, from, sources, []);
}

/** A key that nobody knows: an error where the user typed it, a note where a config file has it. */
function unknownKey(
  setting: Place,
  from: "argument" | "config",
  sources: DraftSources,
  params: readonly string[],
): void {
  const { key, place } = setting;
  if (from === "config") {
    sources.note(`${place}: '${key}' is not supported and is ignored`);
    return;
  }
  const plugged = [...providers(sources.toolstack.configKey), ...providers(sources.hypervisor.hooks.deviceType)];
  const all = [...new Set([...Object.keys(KEYS), ...plugged.map((p) => p.key), ...params])].sort();
  const near = nearest(key, all);
  throw new ConfigError(
    `${place}: there is no key '${key}'; ${near.length > 0 ? `perhaps ${near.join(" or ")}` : `the keys are ${all.join(", ")}`}.`,
  );
}

interface Place {
  readonly key: string;
  readonly place: string;
}

/** Settles what the scheduler in charge has as parameters (known once the machine has booted): values for its `adjust`. */
export function schedulerValues(draft: DomainDraft, sources: DraftSources): ParamValues {
  const { hypervisor } = sources;
  const pool = draft.pool === null ? hypervisor.scheduling.pools[0] : hypervisor.pools.named(draft.pool);
  const specs = pool?.scheduler.params?.domain ?? {};
  const values: Record<string, number | boolean> = {};
  for (const [name, { value, place, from }] of draft.schedulerParams) {
    const spec = specs[name];
    if (spec !== undefined) values[name] = spec.type === "boolean" ? value !== 0 : value;
    else if (name === "weight" || name === "cap")
      sources.note(`${place}: this scheduler has no ${name}; it is ignored`);
    else unknownKey({ key: name, place }, from, sources, Object.keys(specs));
  }
  return values;
}

/** ELF, Linux's bzImage, RISC-V Image, one of these compressed as a whole, or a Debian package. */
export function hasKernelMagic(path: string): boolean {
  const head = Buffer.alloc(0x210);
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (error) {
    throw new ConfigError(`${path} cannot be read (${(error as NodeJS.ErrnoException).code ?? String(error)}).`);
  }
  try {
    readSync(fd, head, 0, head.length, 0);
  } finally {
    closeSync(fd);
  }
  const ascii = (at: number, length: number): string => head.toString("latin1", at, at + length);
  return (
    ascii(0, 4) === "\x7fELF" ||
    ascii(0x202, 4) === "HdrS" ||
    ascii(0x38, 4) === "RSC\x05" ||
    ascii(0, 2) === "\x1f\x8b" ||
    ascii(0, 6) === "\xfd7zXZ\0" ||
    ascii(0, 4) === "\x28\xb5\x2f\xfd" ||
    ascii(0, 8) === "!<arch>\n"
  );
}

/** The guest type of a kernel that says none: RISC-V by its machine; else PVH for a kernel that has nothing but a PVH entry; else PV. */
export function guessType(kernel: Uint8Array): string {
  const view = new DataView(kernel.buffer, kernel.byteOffset, kernel.byteLength);
  const magic = (at: number, text: string): boolean =>
    kernel.length >= at + text.length && [...text].every((c, i) => kernel[at + i] === c.charCodeAt(0));
  if (magic(0x38, "RSC\x05")) return "riscv64";
  if (!magic(0, "\x7fELF") || kernel.length < 0x40) return "pv";
  if (view.getUint16(0x12, true) === 243) return "riscv64";
  const notes = xenNotes(kernel, view);
  return notes.has(XEN_ELFNOTE.PHYS32_ENTRY) &&
    !notes.has(XEN_ELFNOTE.VIRT_BASE) &&
    !notes.has(XEN_ELFNOTE.HYPERCALL_PAGE)
    ? "pvh"
    : "pv";
}

/** Types of the ELF notes named Xen in the program's PT_NOTE segments (little-endian, both classes); empty where anything is odd. */
function xenNotes(image: Uint8Array, view: DataView): ReadonlySet<number> {
  const found = new Set<number>();
  const wide = image[4] === 2;
  try {
    const table = view.getUint32(wide ? 0x20 : 0x1c, true);
    const entry = view.getUint16(wide ? 0x36 : 0x2a, true);
    const count = view.getUint16(wide ? 0x38 : 0x2c, true);
    for (let i = 0; i < count; i++) {
      const header = table + i * entry;
      if (view.getUint32(header, true) !== 4) continue;
      let at = view.getUint32(header + (wide ? 8 : 4), true);
      const end = at + view.getUint32(header + (wide ? 0x20 : 0x10), true);
      while (at + 12 <= end) {
        const nameSize = view.getUint32(at, true);
        const size = view.getUint32(at + 4, true);
        if (nameSize === 4 && view.getUint32(at + 12, true) === 0x006e6558) found.add(view.getUint32(at + 8, true));
        at += 12 + ((nameSize + 3) & ~3) + ((size + 3) & ~3);
      }
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return found;
}
