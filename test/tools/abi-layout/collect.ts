/**
 * What core/abi says, in a form that can be compared with a C compiler's answers: every structure's size and alignment, every
 * path's offset and size, every constant by the name that the headers give it.
 *
 * Left out, because the headers have no such name: what `NOT_IN_HEADERS` lists.
 */
import * as abi from "../../../core/abi/index.ts";
import { ABI_X86_32, ABI_X86_64, type Abi, type Field, type StructType } from "../../../core/abi/index.ts";

/** One compiler target: its flag, its ABI, and the exports that are the other target's. */
export interface Target {
  readonly name: "x86_64" | "x86_32";
  readonly flag: string;
  readonly abi: Abi;
  readonly others: string;
}

export const TARGETS: readonly Target[] = [
  { name: "x86_64", flag: "-m64", abi: ABI_X86_64, others: "x86_32" },
  { name: "x86_32", flag: "-m32", abi: ABI_X86_32, others: "x86_64" },
];

/** Offset and total size of a path; a flexible array member has no size. */
export type Place = readonly [offset: number, size: number | null];

export interface StructFacts {
  readonly size: number;
  readonly align: number;
  readonly fields: Readonly<Record<string, Place>>;
}

/** Everything of one target. Constants are strings in hexadecimal, as 64-bit two's complement. */
export interface AbiFacts {
  readonly structs: Readonly<Record<string, StructFacts>>;
  readonly constants: Readonly<Record<string, string>>;
  /** Values of C expressions that functions of core/abi compute. */
  readonly expressions: Readonly<Record<string, number>>;
}

const NOT_IN_HEADERS = new Set([
  "e820entry",
  "E820",
  "SCHEDOP_COMPAT",
  "GRANT_STATUS_BYTES",
  "SRING_HEADER_BYTES",
  "XEN_COMMANDLINE_LEN",
  "XEN_DOMAIN_HANDLE_LEN",
  "TI_DPL_MASK",
  "TI_IF",
  "ABI_X86_64",
  "ABI_X86_32",
  "XS",
  "XSD_ERRORS",
  "XSD_SOCKMSG",
  "XENSTORE_INTERFACE",
  "XENSTORE",
  "ERRNO",
  "ERRNO_INTERNAL",
]);

/** C expressions and what core/abi makes of the same. */
export const EXPRESSIONS: Readonly<Record<string, (abi: Abi) => number>> = {
  "__CONST_RING_SIZE(blkif, 4096)": (target) => abi.ringSize(4096, entryBytes(abi.blkif_sring, target)),
  "__CONST_RING_SIZE(blkif, 65536)": (target) => abi.ringSize(65536, entryBytes(abi.blkif_sring, target)),
  "__CONST_RING_SIZE(netif_tx, 4096)": (target) => abi.ringSize(4096, entryBytes(abi.netif_tx_sring, target)),
  "__CONST_RING_SIZE(netif_rx, 4096)": (target) => abi.ringSize(4096, entryBytes(abi.netif_rx_sring, target)),
  "offsetof(struct blkif_sring, ring)": () => abi.SRING_HEADER_BYTES,
  EVTCHN_2L_NR_CHANNELS: abi.evtchn2lNrChannels,
  "sizeof(grant_status_t)": () => abi.GRANT_STATUS_BYTES,
  "sizeof(xen_commandline_t)": () => abi.XEN_COMMANDLINE_LEN,
  "sizeof(xen_domain_handle_t)": () => abi.XEN_DOMAIN_HANDLE_LEN,
  "XENMEMF_get_address_bits(0x1234ff)": () => abi.XENMEMF_get_address_bits(0x1234ff),
  "XENMEMF_get_node(XENMEMF_node(3) | 40)": () => abi.XENMEMF_get_node((4 << 8) | 40),
  "XENMEMF_get_node(0)": () => abi.XENMEMF_get_node(0),
};

function entryBytes(sring: StructType, target: Abi): number {
  const ring = sring.at(target).all.get("ring");
  if (ring === undefined) throw new Error(`${sring.name} has no ring`);
  return ring.stride;
}

function isStruct(value: object): value is StructType {
  return "kind" in value && value.kind === "struct";
}

/** Exports of one target by name: the common ones, and those of its own namespace. */
function exportsOf(target: Target): [string, unknown][] {
  const own = target.name === "x86_64" ? abi.x86_64 : abi.x86_32;
  return [...Object.entries(abi), ...Object.entries(own)].filter(
    ([name]) => !NOT_IN_HEADERS.has(name) && !/^x86_(32|64)$/.test(name),
  );
}

/** The structures that the headers name, by tag. */
export function structsOf(target: Target): Map<string, StructType> {
  const structs = new Map<string, StructType>();
  for (const [, value] of exportsOf(target)) {
    if (typeof value === "object" && value !== null && isStruct(value)) structs.set(value.name, value);
  }
  return structs;
}

/** What core/abi says of one target. */
export function collect(target: Target): AbiFacts {
  const structs: Record<string, StructFacts> = {};
  for (const [name, type] of structsOf(target)) {
    const layout = type.at(target.abi);
    const fields: Record<string, Place> = {};
    for (const [path, field] of layout.all) {
      const size = field.isArray ? field.size * field.count : field.size;
      if (field.present) fields[path] = [field.offset, field.count === 0 ? null : size];
    }
    structs[name] = { size: layout.size, align: layout.align, fields };
  }
  const constants: Record<string, string> = {};
  for (const [name, value] of exportsOf(target)) {
    if (typeof value === "number") constants[name] = hex(BigInt(value));
    if (typeof value !== "object" || value === null || isStruct(value) || Array.isArray(value)) continue;
    if ("lo" in value && "hi" in value) {
      constants[name] = hex((BigInt(value.hi as number) << 32n) | BigInt(value.lo as number));
      continue;
    }
    for (const [key, entry] of Object.entries(value)) {
      constants[name === "XenbusState" ? name + key : `${name}_${key}`] = hex(BigInt(entry as number));
    }
  }
  const expressions: Record<string, number> = {};
  for (const [expression, value] of Object.entries(EXPRESSIONS)) expressions[expression] = value(target.abi);
  return { structs, constants, expressions };
}

/** The path as C writes it: `[0]` after each array that it goes through. */
export function cPath(all: ReadonlyMap<string, Field>, path: string): string {
  const parts = path.split(".");
  return parts
    .map((part, index) => {
      const last = index === parts.length - 1;
      return !last && all.get(parts.slice(0, index + 1).join("."))?.isArray === true ? `${part}[0]` : part;
    })
    .join(".");
}

function hex(value: bigint): string {
  return `0x${BigInt.asUintN(64, value).toString(16)}`;
}
