/**
 * Disk specifications as xl has them (xl-disk-configuration(5)): `target,format,vdev,access`, then or instead named parameters and flags;
 * `target=` takes the rest of the line; the old forms `phy:PATH,VDEV,ACCESS`, `file:` and `tap:aio:` still parse. One parameter is
 * this project's own: `cow=FILE` (or `overlay=FILE`) leaves the image as it is and puts what the guest writes into FILE, which is
 * made if it does not exist; `cow=temp` forgets it at the end.
 *
 * Pure; each error is one sentence with the spec and what would be right.
 */
import { ConfigError } from "hookvisor";
import { vdevNumber } from "./vdev.ts";

/** One disk. */
export interface DiskSpec {
  readonly target: string;
  /** As the user named it: xvda. */
  readonly vdev: string;
  /** As XenStore numbers it: 51712. */
  readonly number: number;
  readonly writable: boolean;
  readonly cdrom: boolean;
  /** Where writes go instead of the image: a file, or one that is forgotten at the end; null: into the image. */
  readonly overlay: { readonly file: string } | "temporary" | null;
  /** The guest may give parts of the disk up, where the host can. */
  readonly discard: boolean;
}

interface Draft {
  target?: string;
  format?: string;
  vdev?: string;
  access?: string;
  cdrom?: boolean;
  overlay?: string;
  discard?: boolean;
}

const POSITIONS = ["target", "format", "vdev", "access"] as const;
const FORMATS = ["raw", "qcow", "qcow2", "vhd", "qed"];
/** Parameters of xl that change nothing here. */
const IGNORED = /^(?:direct-io-safe|backendtype=(?:phy|tap|qdisk)|specification=xen)$/;
const LEGACY = /^(?:tap2?:)?(?:tapdisk:)?(?:(aio|phy|file|raw|qcow2?|vhd|qed):)?/;

/** Parses one spec. `virtio`: the guest's names (vda) will do for the virtual device, too. */
export function parseDiskSpec(spec: string, virtio = false): DiskSpec {
  const fail = (what: string): never => {
    throw new ConfigError(`Disk '${spec}': ${what}.`);
  };
  const draft = collect(spec, fail);
  const format = draft.format === undefined || draft.format === "" ? "raw" : draft.format;
  if (format !== "raw")
    fail(
      FORMATS.includes(format)
        ? `format ${format} is not supported, only raw; convert it with qemu-img convert -O raw`
        : `there is no format '${format}'; use raw`,
    );
  const { vdev = "", target = "" } = draft;
  if (target === "") fail("it names no image file; an example is disk.img,raw,xvda,w");
  if (vdev === "") fail(`it names no virtual device; an example is ${target},raw,xvda,w`);
  const number = vdevNumber(vdev, virtio);
  if (number === null) return fail(`'${vdev}' is no virtual device; use a name such as xvda, xvdb1, hda or sda`);
  const cdrom = draft.cdrom === true;
  const access = draft.access === undefined || draft.access === "" ? (cdrom ? "r" : "w") : draft.access;
  if (!["r", "ro", "w", "rw"].includes(access)) fail(`access is '${access}'; it must be r or w`);
  if (cdrom && access.includes("w")) fail("a CD-ROM is read-only; give the access r");
  const writable = access.includes("w");
  if (draft.overlay !== undefined && !writable)
    fail("cow is for a disk that is written; give the access w, or leave cow out");
  const overlay = draft.overlay === undefined ? null : draft.overlay === "temp" ? "temporary" : { file: draft.overlay };
  return { target, vdev, number, writable, cdrom, overlay, discard: draft.discard !== false };
}

function collect(spec: string, fail: (what: string) => never): Draft {
  const draft: Draft = {};
  let rest = spec.trim();
  let positions: readonly (typeof POSITIONS)[number][] = POSITIONS;
  const prefix = LEGACY.exec(rest)![0];
  if (prefix !== "" && !/^(?:raw|qcow2?|vhd|qed)$/.test(prefix)) {
    const kind = /(\w+):$/.exec(prefix)?.[1] ?? "";
    if (FORMATS.includes(kind)) draft.format = kind;
    rest = rest.slice(prefix.length);
    positions = ["target", "vdev", "access"];
  } else if (/^[a-z0-9]+:[^,]/.test(rest) && !/^target=/.test(rest))
    fail("its kind of target is not supported; give the path of a raw image");
  let position = 0;
  while (rest !== "") {
    const target = /^target=(.*)$/s.exec(rest);
    if (target !== null) {
      set(draft, "target", target[1]!, fail);
      return draft;
    }
    const comma = rest.indexOf(",");
    const part = (comma < 0 ? rest : rest.slice(0, comma)).trim();
    rest = comma < 0 ? "" : rest.slice(comma + 1).trimStart();
    if (named(draft, part, fail)) continue;
    const key = positions[position++];
    if (key === undefined) return fail(`there is no parameter '${part}'`);
    if (part !== "") set(draft, key, part, fail);
  }
  return draft;
}

/** A named parameter or a flag. */
function named(draft: Draft, part: string, fail: (what: string) => never): boolean {
  if (IGNORED.test(part)) return true;
  const match = /^([a-z][a-z-]*)=(.*)$/s.exec(part);
  if (part === "cdrom" || part === "devtype=cdrom") draft.cdrom = true;
  else if (part === "devtype=disk") draft.cdrom = false;
  else if (part === "discard") draft.discard = true;
  else if (part === "no-discard") draft.discard = false;
  else if (match === null) return false;
  else {
    const [, key, value = ""] = match;
    if (key === "format" || key === "vdev" || key === "access") set(draft, key, value, fail);
    else if (key === "cow" || key === "overlay") {
      if (draft.overlay !== undefined) fail("it gives cow twice");
      if (value === "") fail("cow names no file; use cow=FILE or cow=temp");
      draft.overlay = value;
    } else if (key === "script" || key === "backend" || key === "backendtype")
      fail(`'${key}' is not supported; backends run inside the hypervisor`);
    else fail(`there is no parameter '${key}'; there are format, vdev, access, devtype, cow, target`);
  }
  return true;
}

function set(draft: Draft, key: (typeof POSITIONS)[number], value: string, fail: (what: string) => never): void {
  if (draft[key] !== undefined) fail(`it gives ${key} twice`);
  const kind = key === "vdev" ? /^(.*):(cdrom|disk)$/.exec(value) : null;
  if (kind !== null) {
    draft.cdrom = kind[2] === "cdrom";
    draft.vdev = kind[1]!;
  } else draft[key] = value;
}
