/**
 * A domain to be, put together from xl.cfg settings, KEY=VALUE arguments and options; checked key by key.
 *
 * Invariants: keys of the command line that nobody knows are errors; those of a config file are notes, because real xl.cfg files say much that
 * matters to other devices only; every message says where the value was written.
 */
import { ConfigError, type ShutdownAction } from "hookvisor";
import type { XlSetting, XlValue } from "./xl-cfg.ts";

/** What will become a DomainConfig. */
export interface DomainDraft {
  name: string | null;
  type: string | null;
  kernel: string | null;
  ramdisk: string | null;
  /** Parts of the command line, in order. */
  cmdline: string | null;
  root: string | null;
  extra: string | null;
  /** What the image that it was made from puts in front. */
  imageExtra: string | null;
  memoryMiB: number | null;
  maxMemoryMiB: number | null;
  vcpus: number | null;
  uuid: string | null;
  cpus: readonly number[] | null;
  softCpus: readonly number[] | null;
  /** Name of its cpupool. */
  pool: string | null;
  /** `fromImage`: a default of the image's, which gives way to what the user says of that type. */
  devices: { type: string; spec: string; fromImage?: true }[];
  onPoweroff: ShutdownAction | null;
  onReboot: ShutdownAction | null;
  onCrash: ShutdownAction | null;
  /** Values for the scheduler, by its own names. */
  schedulerParams: Map<string, SchedulerValue>;
}

/** A number that may be a parameter of the scheduler. */
export interface SchedulerValue {
  readonly value: number;
  readonly place: string;
  readonly from: "argument" | "config";
}

export function createDraft(): DomainDraft {
  return {
    name: null,
    type: null,
    kernel: null,
    ramdisk: null,
    cmdline: null,
    root: null,
    extra: null,
    imageExtra: null,
    memoryMiB: null,
    maxMemoryMiB: null,
    vcpus: null,
    uuid: null,
    cpus: null,
    softCpus: null,
    pool: null,
    devices: [],
    onPoweroff: null,
    onReboot: null,
    onCrash: null,
    schedulerParams: new Map(),
  };
}

/** The kernel's command line (xl: `cmdline`, else `root=` and `extra`; the image's own before them). */
export function commandLineOf(draft: DomainDraft): string {
  if (draft.cmdline !== null) return draft.cmdline;
  const root = draft.root === null ? null : `root=${draft.root}`;
  return [draft.imageExtra, root, draft.extra].filter((part) => part !== null).join(" ");
}

type Apply = (draft: DomainDraft, setting: XlSetting) => void;

const ACTIONS: readonly ShutdownAction[] = ["destroy", "restart", "preserve", "rename-restart"];

function fail(setting: XlSetting, expected: string): never {
  throw new ConfigError(`${setting.place}: '${setting.key}' must be ${expected}, got ${showValue(setting.value)}.`);
}

/** A value as the user may have written it, cut to a length fit for a message. */
export function showValue(value: XlValue): string {
  const text =
    typeof value === "object"
      ? `[${value.map(showValue).join(", ")}]`
      : typeof value === "string"
        ? `"${value}"`
        : `${value}`;
  return text.length > 40 ? `${text.slice(0, 37)}...` : text;
}

function text(setting: XlSetting): string {
  return typeof setting.value === "string" ? setting.value : fail(setting, "text in quotes");
}

function whole(setting: XlSetting, min: number, max: number): number {
  const value =
    typeof setting.value === "string" && /^\d+$/.test(setting.value) ? Number(setting.value) : setting.value;
  if (typeof value !== "number" || value < min || value > max)
    return fail(setting, `a whole number from ${min} to ${max}`);
  return value;
}

function action(setting: XlSetting): ShutdownAction {
  const value = text(setting);
  const found = ACTIONS.find((one) => one === value);
  return found ?? fail(setting, `one of ${ACTIONS.join(", ")} (no core dumps yet)`);
}

function list(setting: XlSetting): readonly string[] {
  const { value } = setting;
  if (typeof value === "string") return value === "" ? [] : [value];
  if (typeof value !== "object") return fail(setting, "a list of texts");
  return value.map((one) => (typeof one === "string" ? one : fail(setting, "a list of texts")));
}

/** `0-3,5,^2` or a list of such, as xl has it; "all" means every pCPU (null). */
export function parseCpus(setting: XlSetting): readonly number[] | null {
  const parts =
    typeof setting.value === "number" ? [String(setting.value)] : list(setting).flatMap((one) => one.split(","));
  const cpus = new Set<number>();
  for (const part of parts.map((p) => p.trim())) {
    if (part === "all") return null;
    const match = /^(\^?)(\d{1,4})(?:-(\d{1,4}))?$/.exec(part);
    if (match === null) fail(setting, 'pCPUs such as "0-3,5,^2"');
    const from = Number(match[2]);
    for (let cpu = from; cpu <= Number(match[3] ?? from); cpu++) match[1] === "^" ? cpus.delete(cpu) : cpus.add(cpu);
  }
  return cpus.size === 0 ? fail(setting, "at least one pCPU") : [...cpus].sort((a, b) => a - b);
}

/** The keys that the toolstack itself knows. */
export const KEYS: Readonly<Record<string, Apply>> = Object.freeze({
  name: (d, s) => {
    const name = text(s);
    if (!/^[^\s:/\\]{1,64}$/.test(name)) fail(s, "1 to 64 characters without blanks, ':' or slashes");
    d.name = name;
  },
  type: (d, s) => {
    d.type = text(s);
  },
  builder: (d, s) => {
    const builder = text(s);
    d.type =
      builder === "hvm"
        ? "hvm"
        : builder === "generic" || builder === "linux"
          ? "pv"
          : fail(s, "hvm, generic or linux");
  },
  kernel: (d, s) => {
    d.kernel = text(s);
  },
  ramdisk: (d, s) => {
    d.ramdisk = text(s) === "" ? null : text(s);
  },
  cmdline: (d, s) => {
    d.cmdline = text(s);
  },
  root: (d, s) => {
    d.root = text(s);
  },
  extra: (d, s) => {
    d.extra = text(s);
  },
  memory: (d, s) => {
    d.memoryMiB = whole(s, 1, 4096);
  },
  maxmem: (d, s) => {
    d.maxMemoryMiB = whole(s, 1, 4096);
  },
  vcpus: (d, s) => {
    d.vcpus = whole(s, 1, 64);
  },
  maxvcpus: (d, s) => {
    d.vcpus = Math.max(d.vcpus ?? 1, whole(s, 1, 64));
  },
  uuid: (d, s) => {
    const uuid = text(s);
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(uuid)) fail(s, "a UUID");
    d.uuid = uuid.toLowerCase();
  },
  cpus: (d, s) => {
    d.cpus = parseCpus(s);
  },
  cpus_soft: (d, s) => {
    d.softCpus = parseCpus(s);
  },
  pool: (d, s) => {
    d.pool = text(s);
  },
  disk: (d, s) => {
    for (const spec of list(s)) d.devices.push({ type: "vbd", spec });
  },
  on_poweroff: (d, s) => {
    d.onPoweroff = action(s);
  },
  on_reboot: (d, s) => {
    d.onReboot = action(s);
  },
  on_crash: (d, s) => {
    d.onCrash = action(s);
  },
  cpu_weight: (d, s) => {
    d.schedulerParams.set("weight", { value: whole(s, 1, 65535), place: s.place, from: "argument" });
  },
});

/** Adds devices of a type from a list of specs: keys named like a device type (`vif = [...]`). */
export function addDevices(draft: DomainDraft, type: string, setting: XlSetting): void {
  draft.devices = draft.devices.filter((device) => device.fromImage !== true || device.type !== type);
  for (const spec of list(setting)) draft.devices.push({ type, spec });
}

/** A value for the scheduler under its own parameter's name. */
export function addSchedulerParam(draft: DomainDraft, setting: XlSetting, from: "argument" | "config"): boolean {
  if (typeof setting.value !== "number") return false;
  draft.schedulerParams.set(setting.key, { value: setting.value, place: setting.place, from });
  return true;
}
