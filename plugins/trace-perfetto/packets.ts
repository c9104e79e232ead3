/**
 * Packets of a Perfetto trace. What is written for every event (a slice begins or ends, a counter changes) is encoded by hand into one buffer,
 * without a call or an object per field; descriptors and names, which are rare, by the protobuf library.
 *
 * Invariants: one packet sequence; names are interned before they are used; a hot packet is less than 128 bytes, so that its lengths are one byte.
 */
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { TraceSink } from "../lib-trace/index.ts";
import {
  ANNOTATION,
  COUNTER,
  DESCRIPTOR,
  ENTRY,
  EVENT,
  EXPLICIT,
  INTERNED,
  PACKET,
  SEQUENCE,
  TRACE,
  TYPE,
  UNIT_COUNT,
} from "./schema.ts";

const CHUNK = 1 << 18;
/** More than any hot packet. */
const HOT = 128;
const SEQUENCE_ID = 1;

/** A key of a field whose wire type is varint, and one that has a length. */
const varint = (field: number): number => field << 3;
const delimited = (field: number): number => (field << 3) | 2;

/** Keys of the hot packets. */
const KEY_PACKET = delimited(TRACE.packet);
const KEY_EVENT = delimited(PACKET.trackEvent);
const KEY_ANNOTATION = delimited(EVENT.annotation);
const KEY_TIME = varint(PACKET.timestamp);
const KEY_SEQUENCE = varint(PACKET.sequenceId);
const KEY_FLAGS = varint(PACKET.sequenceFlags);
const KEY_TYPE = varint(EVENT.type);
const KEY_TRACK = varint(EVENT.track);
const KEY_NAME = varint(EVENT.nameId);
const KEY_VALUE = varint(EVENT.counterValue);
const KEY_ANNOTATION_NAME = varint(ANNOTATION.nameId);
const KEY_ANNOTATION_VALUE = varint(ANNOTATION.unsigned);
const { begin: BEGIN, end: END, counter: VALUE } = TYPE;
const NEEDS_STATE = SEQUENCE.needsState;

/** What a track is called and where it belongs. */
export interface Track {
  readonly name: string;
  /** 0: none. */
  readonly parent?: number;
  /** Place among its siblings. */
  readonly rank?: number;
  /** It is a counter; the name of its unit, "" for a count. */
  readonly unit?: string;
}

export class Packets {
  readonly #sink: TraceSink;
  #buffer = new Uint8Array(CHUNK + HOT);
  #at = 0;
  readonly #names = new Map<string, number>();
  #tracks = 0;
  #begun = false;
  /** Where the fields of the event of the open packet begin. */
  #event = 0;

  constructor(sink: TraceSink) {
    this.#sink = sink;
  }

  /** A new track; answers its number. */
  track({ name, parent, rank, unit }: Track): number {
    const uuid = ++this.#tracks;
    this.#cold((packet) => {
      packet.tag(PACKET.trackDescriptor, WireType.LengthDelimited).fork();
      packet.tag(DESCRIPTOR.uuid, WireType.Varint).uint64(uuid);
      packet.tag(DESCRIPTOR.name, WireType.LengthDelimited).string(name);
      if (parent !== undefined) packet.tag(DESCRIPTOR.parent, WireType.Varint).uint64(parent);
      if (unit !== undefined) {
        packet.tag(DESCRIPTOR.counter, WireType.LengthDelimited).fork();
        if (unit === "") packet.tag(COUNTER.unit, WireType.Varint).int32(UNIT_COUNT);
        else packet.tag(COUNTER.unitName, WireType.LengthDelimited).string(unit);
        packet.join();
      } else packet.tag(DESCRIPTOR.childOrdering, WireType.Varint).int32(EXPLICIT);
      if (rank !== undefined) packet.tag(DESCRIPTOR.siblingRank, WireType.Varint).int32(rank);
      packet.join();
    });
    return uuid;
  }

  /** The number of an event's name. */
  name(text: string): number {
    return this.#intern(INTERNED.eventNames, text);
  }

  /** The number of an annotation's name. */
  annotation(text: string): number {
    return this.#intern(INTERNED.annotationNames, text);
  }

  #intern(kind: number, text: string): number {
    const key = `${kind}:${text}`;
    let id = this.#names.get(key);
    if (id === undefined) {
      const next = this.#names.size + 1;
      id = next;
      this.#names.set(key, id);
      this.#cold((packet) => {
        packet.tag(PACKET.internedData, WireType.LengthDelimited).fork();
        packet.tag(kind, WireType.LengthDelimited).fork();
        packet.tag(ENTRY.id, WireType.Varint).uint64(next);
        packet.tag(ENTRY.name, WireType.LengthDelimited).string(text);
        packet.join().join();
      });
    }
    return id;
  }

  /** A mark with a text of its own. */
  instant(track: number, text: string, now: number): void {
    this.#cold((packet) => {
      packet.tag(PACKET.timestamp, WireType.Varint).uint64(now);
      packet.tag(PACKET.trackEvent, WireType.LengthDelimited).fork();
      packet.tag(EVENT.type, WireType.Varint).int32(TYPE.instant);
      packet.tag(EVENT.track, WireType.Varint).uint64(track);
      packet.tag(EVENT.name, WireType.LengthDelimited).string(text);
      packet.join();
    });
  }

  /** A slice begins. `annotation`: number of an annotation's name with its value, 0: none. */
  begin(track: number, name: number, now: number, annotation = 0, value = 0): void {
    const start = this.#open(now, BEGIN, track);
    const bytes = this.#buffer;
    let at = this.#at;
    bytes[at++] = KEY_NAME;
    at = writeVarint(bytes, at, name);
    if (annotation !== 0) {
      bytes[at] = KEY_ANNOTATION;
      const length = at + 1;
      at += 2;
      bytes[at++] = KEY_ANNOTATION_NAME;
      at = writeVarint(bytes, at, annotation);
      bytes[at++] = KEY_ANNOTATION_VALUE;
      at = writeVarint(bytes, at, value);
      bytes[length] = at - length - 1;
    }
    this.#close(start, at);
  }

  /** The newest slice of a track ends. */
  end(track: number, now: number): void {
    const start = this.#open(now, END, track);
    this.#close(start, this.#at);
  }

  /** A counter's value from now on: a whole number, not negative. */
  counter(track: number, value: number, now: number): void {
    const start = this.#open(now, VALUE, track);
    const bytes = this.#buffer;
    let at = this.#at;
    bytes[at++] = (KEY_VALUE & 127) | 128;
    bytes[at++] = KEY_VALUE >>> 7;
    at = writeVarint(bytes, at, value);
    this.#close(start, at);
  }

  /** Begins a packet with an event; answers where the packet's length belongs. */
  #open(now: number, type: number, track: number): number {
    if (this.#at > CHUNK) this.flush();
    const bytes = this.#buffer;
    const start = this.#at + 1;
    bytes[start - 1] = KEY_PACKET;
    let at = start + 1;
    bytes[at++] = KEY_TIME;
    at = writeVarint(bytes, at, now);
    bytes[at++] = KEY_SEQUENCE;
    bytes[at++] = SEQUENCE_ID;
    bytes[at++] = KEY_FLAGS;
    bytes[at++] = NEEDS_STATE;
    bytes[at++] = KEY_EVENT;
    this.#event = ++at;
    bytes[at++] = KEY_TYPE;
    bytes[at++] = type;
    bytes[at++] = KEY_TRACK;
    this.#at = writeVarint(bytes, at, track);
    return start;
  }

  /** Ends it at `at`: fills in both lengths. */
  #close(start: number, at: number): void {
    this.#buffer[start] = at - start - 1;
    this.#buffer[this.#event - 1] = at - this.#event;
    this.#at = at;
  }

  /** A packet by the library. */
  #cold(fields: (packet: BinaryWriter) => void): void {
    const packet = new BinaryWriter();
    packet.tag(TRACE.packet, WireType.LengthDelimited).fork();
    packet.tag(PACKET.sequenceId, WireType.Varint).uint32(SEQUENCE_ID);
    packet.tag(PACKET.sequenceFlags, WireType.Varint).uint32(this.#begun ? SEQUENCE.needsState : SEQUENCE.stateCleared);
    if (!this.#begun) packet.tag(PACKET.firstPacketOnSequence, WireType.Varint).bool(true);
    this.#begun = true;
    fields(packet);
    packet.join();
    const bytes = packet.finish();
    if (this.#at + bytes.length > this.#buffer.length) this.flush();
    if (bytes.length > this.#buffer.length) this.#sink(bytes);
    else {
      this.#buffer.set(bytes, this.#at);
      this.#at += bytes.length;
    }
  }

  /** Hands over what there is. */
  flush(): void {
    if (this.#at > 0) this.#sink(this.#buffer.slice(0, this.#at));
    this.#at = 0;
  }
}

/** Writes a whole number that is not negative; answers where it ends. */
function writeVarint(bytes: Uint8Array, from: number, value: number): number {
  let at = from;
  let rest = value;
  while (rest >= 0x80000000) {
    const above = Math.floor(rest / 128);
    bytes[at++] = (rest - above * 128) | 128;
    rest = above;
  }
  let small = rest | 0;
  while (small >= 128) {
    bytes[at++] = (small & 127) | 128;
    small >>>= 7;
  }
  bytes[at++] = small;
  return at;
}
