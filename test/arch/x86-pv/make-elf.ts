/** Makes small ELF64 kernels for the loader's tests. */

/** One Xen note: type, and a string or a number. */
export type Note = readonly [type: number, value: string | bigint];

export interface ElfOptions {
  readonly notes?: readonly Note[];
  /** Text of a `__xen_guest` section. */
  readonly legacy?: string;
  readonly entry?: bigint;
  readonly machine?: number;
  readonly bits?: 32 | 64;
  /** Loadable segments. */
  readonly loads?: readonly {
    readonly physical: bigint;
    readonly virtual?: bigint;
    readonly bytes: Uint8Array;
    readonly memorySize?: bigint;
  }[];
}

function noteBytes(notes: readonly Note[]): Uint8Array {
  const parts: number[] = [];
  const word = (value: number): number =>
    parts.push(value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24);
  for (const [type, value] of notes) {
    const data =
      typeof value === "string"
        ? [...new TextEncoder().encode(value), 0]
        : Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(8 * i)) & 255n));
    word(4);
    word(data.length);
    word(type);
    parts.push(0x58, 0x65, 0x6e, 0);
    parts.push(...data);
    while (parts.length % 4 !== 0) parts.push(0);
  }
  return Uint8Array.from(parts);
}

/** The usual notes of a modern kernel. */
export const NOTES: readonly Note[] = [
  [5, "xen-3.0"],
  [8, "generic"],
  [9, "yes"],
];

/** An image by its parts. */
export function makeElf(options: ElfOptions = {}): Uint8Array {
  const loads = options.loads ?? [{ physical: 0n, bytes: Uint8Array.of(0xf4) }];
  const note = options.legacy === undefined ? noteBytes(options.notes ?? NOTES) : new Uint8Array(0);
  const headers = loads.length + (note.length > 0 ? 1 : 0);
  let at = 64 + headers * 56;
  const places = loads.map((load) => {
    const offset = at;
    at += load.bytes.length;
    return offset;
  });
  const noteAt = at;
  at += note.length;
  const names = "\0__xen_guest\0.shstrtab\0";
  const legacy = options.legacy === undefined ? null : new TextEncoder().encode(`${options.legacy}\0`);
  const legacyAt = at;
  const namesAt = at + (legacy?.length ?? 0);
  const sectionsAt = namesAt + names.length;
  const bytes = new Uint8Array(legacy === null ? at : sectionsAt + 3 * 64);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, options.bits === 32 ? 1 : 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, options.machine ?? 62, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(24, options.entry ?? loads[0]!.virtual ?? loads[0]!.physical, true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, headers, true);
  const header = (
    i: number,
    type: number,
    offset: number,
    virtual: bigint,
    physical: bigint,
    size: number,
    memory: bigint,
  ) => {
    const base = 64 + i * 56;
    view.setUint32(base, type, true);
    view.setUint32(base + 4, 7, true);
    view.setBigUint64(base + 8, BigInt(offset), true);
    view.setBigUint64(base + 16, virtual, true);
    view.setBigUint64(base + 24, physical, true);
    view.setBigUint64(base + 32, BigInt(size), true);
    view.setBigUint64(base + 40, memory, true);
  };
  for (const [i, load] of loads.entries()) {
    bytes.set(load.bytes, places[i]!);
    const memory = load.memorySize ?? BigInt(load.bytes.length);
    header(i, 1, places[i]!, load.virtual ?? load.physical, load.physical, load.bytes.length, memory);
  }
  if (note.length > 0) {
    bytes.set(note, noteAt);
    header(loads.length, 4, noteAt, 0n, 0n, note.length, BigInt(note.length));
  }
  if (legacy !== null) {
    bytes.set(legacy, legacyAt);
    bytes.set(new TextEncoder().encode(names), namesAt);
    view.setBigUint64(40, BigInt(sectionsAt), true);
    view.setUint16(58, 64, true);
    view.setUint16(60, 3, true);
    view.setUint16(62, 2, true);
    const section = (i: number, name: number, type: number, offset: number, size: number) => {
      const base = sectionsAt + i * 64;
      view.setUint32(base, name, true);
      view.setUint32(base + 4, type, true);
      view.setBigUint64(base + 24, BigInt(offset), true);
      view.setBigUint64(base + 32, BigInt(size), true);
    };
    section(1, 1, 1, legacyAt, legacy.length);
    section(2, 13, 3, namesAt, names.length);
  }
  return bytes;
}
