/** A reader of Perfetto traces by the protobuf library: packets, tracks, interned names, slices put together. Strict: what does not fit is an error. */
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

/** A message as its fields: numbers, or bytes of what has a length. */
type Fields = Map<number, (number | Uint8Array)[]>;

function message(bytes: Uint8Array): Fields {
  const reader = new BinaryReader(bytes);
  const fields: Fields = new Map();
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    const value =
      type === WireType.Varint ? Number(reader.uint64()) : type === WireType.LengthDelimited ? reader.bytes() : null;
    if (value === null) throw new Error(`field ${field} has wire type ${type}`);
    const values = fields.get(field);
    if (values === undefined) fields.set(field, [value]);
    else values.push(value);
  }
  return fields;
}

const number = (fields: Fields, field: number): number | undefined => {
  const value = fields.get(field)?.[0];
  if (value instanceof Uint8Array) throw new Error(`field ${field} is no number`);
  return value;
};
const bytes = (fields: Fields, field: number): Uint8Array | undefined => {
  const value = fields.get(field)?.[0];
  if (typeof value === "number") throw new Error(`field ${field} is a number`);
  return value;
};
const text = (fields: Fields, field: number): string | undefined => {
  const value = bytes(fields, field);
  return value === undefined ? undefined : new TextDecoder().decode(value);
};

export interface Slice {
  readonly name: string;
  readonly from: number;
  readonly to: number;
  readonly pcpu: number | undefined;
}

export interface DecodedTrack {
  /** With its parents, separated by slashes. */
  readonly path: string;
  readonly counter: boolean;
  readonly unit: string | undefined;
  readonly slices: Slice[];
  readonly values: { readonly now: number; readonly value: number }[];
  readonly instants: { readonly now: number; readonly name: string }[];
}

/** All tracks by their paths. */
export function decodeTracks(file: Uint8Array): Map<string, DecodedTrack> {
  const names = new Map<number, string>();
  const tracks = new Map<
    number,
    DecodedTrack & { open: { name: string; from: number; pcpu: number | undefined } | null; last: number }
  >();
  let first = true;
  for (const value of message(file).get(1) ?? []) {
    const packet = message(value as Uint8Array);
    if (number(packet, 10) !== 1) throw new Error("another packet sequence");
    if (number(packet, 13) !== (first ? 1 : 2)) throw new Error("wrong sequence flags");
    if (first && number(packet, 87) !== 1) throw new Error("not the first packet of its sequence");
    first = false;
    const interned = bytes(packet, 12);
    if (interned !== undefined)
      for (const entry of [...message(interned).values()].flat()) {
        const fields = message(entry as Uint8Array);
        names.set(number(fields, 1)!, text(fields, 2)!);
      }
    const descriptor = bytes(packet, 60);
    if (descriptor !== undefined) {
      const fields = message(descriptor);
      const parent = number(fields, 5);
      if (parent !== undefined && !tracks.has(parent)) throw new Error("a track before its parent");
      const counter = bytes(fields, 8);
      tracks.set(number(fields, 1)!, {
        path: `${parent === undefined ? "" : `${tracks.get(parent)!.path}/`}${text(fields, 2)}`,
        counter: counter !== undefined,
        unit: counter === undefined ? undefined : text(message(counter), 6),
        slices: [],
        values: [],
        instants: [],
        open: null,
        last: 0,
      });
    }
    const event = bytes(packet, 11);
    if (event === undefined) continue;
    const now = number(packet, 8)!;
    const fields = message(event);
    const track = tracks.get(number(fields, 11)!);
    if (track === undefined) throw new Error("an event on no track");
    if (now < track.last) throw new Error(`${track.path} goes back in time at ${now}`);
    track.last = now;
    const id = number(fields, 10);
    const name = id === undefined ? text(fields, 23) : names.get(id);
    switch (number(fields, 9)) {
      case 1: {
        if (track.open !== null) throw new Error(`slices of ${track.path} overlap at ${now}`);
        const annotation = bytes(fields, 4);
        const pcpu = annotation === undefined ? undefined : number(message(annotation), 3);
        track.open = { name: name!, from: now, pcpu };
        break;
      }
      case 2:
        if (track.open === null) throw new Error(`${track.path} ends nothing at ${now}`);
        track.slices.push({ ...track.open, to: now });
        track.open = null;
        break;
      case 3:
        track.instants.push({ now, name: name! });
        break;
      case 4:
        if (!track.counter) throw new Error(`${track.path} is no counter`);
        track.values.push({ now, value: number(fields, 30)! });
        break;
      default:
        throw new Error("an event of no type");
    }
  }
  for (const track of tracks.values()) if (track.open !== null) throw new Error(`${track.path} is left open`);
  return new Map([...tracks.values()].map((track) => [track.path, track]));
}
