/**
 * The file form of a recording: equal recordings give equal bytes, on any host.
 *
 * `HVREC1\n`, then sections, each a 32-bit length and its bytes: the tables and the counts as JSON, then the columns of events (time as differences,
 * kind, pcpu, vcpu, extra) and of jobs (release, deadline, end, as differences to the row before). A whole number is a zigzag varint, as in
 * protobuf; a deadline of Infinity is written as 2^53 - 1 before the difference is taken. Invariant: whatever is no such file is a ConfigError.
 */
import { ConfigError } from "hookvisor";
import type { Recording, RecordingTables } from "./recording.ts";

const MAGIC = "HVREC1\n";
const NEVER = Number.MAX_SAFE_INTEGER;

/** Appends varints to bytes that grow. */
class Writer {
  bytes = new Uint8Array(4096);
  length = 0;

  byte(value: number): void {
    if (this.length === this.bytes.length) {
      const next = new Uint8Array(this.bytes.length * 2);
      next.set(this.bytes);
      this.bytes = next;
    }
    this.bytes[this.length++] = value;
  }

  /** Zigzag: the sign is the lowest bit of the first byte, so that 54 bits fit without 64-bit arithmetic. */
  signed(value: number): void {
    const sign = value < 0 ? 1 : 0;
    let rest = Math.abs(value);
    const first = ((rest % 64) << 1) | sign;
    rest = Math.floor(rest / 64);
    this.byte(rest > 0 ? first | 0x80 : first);
    while (rest > 0) {
      const next = rest % 128;
      rest = Math.floor(rest / 128);
      this.byte(rest > 0 ? next | 0x80 : next);
    }
  }
}

class Reader {
  readonly bytes: Uint8Array;
  at = 0;
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  byte(): number {
    const value = this.bytes[this.at++];
    if (value === undefined) throw new RangeError("it ends too early");
    return value;
  }

  signed(): number {
    const first = this.byte();
    let value = (first & 0x7f) >> 1;
    let scale = 64;
    for (let more = first & 0x80; more !== 0; scale *= 128) {
      const next = this.byte();
      value += (next & 0x7f) * scale;
      more = next & 0x80;
    }
    return (first & 1) === 1 ? -value : value;
  }
}

type Column = ArrayLike<number>;

function pack(column: Column, differences: boolean): Uint8Array {
  const writer = new Writer();
  let last = 0;
  for (let i = 0; i < column.length; i++) {
    const value = column[i] === Infinity ? NEVER : column[i]!;
    writer.signed(differences ? value - last : value);
    last = value;
  }
  return writer.bytes.subarray(0, writer.length);
}

function unpack<T extends Float64Array | Uint8Array | Int16Array | Int32Array>(
  bytes: Uint8Array,
  column: T,
  differences: boolean,
): T {
  const reader = new Reader(bytes);
  let last = 0;
  for (let i = 0; i < column.length; i++) {
    last = differences ? last + reader.signed() : reader.signed();
    column[i] = last;
  }
  return column;
}

/** Splits a recording into its tables and the rest. */
function tablesOf({ events: _events, jobs: _jobs, ...tables }: Recording): RecordingTables {
  return tables;
}

/** The bytes of a recording. */
export function encodeRecording(recording: Recording): Uint8Array {
  const { events, jobs } = recording;
  const tables = { ...tablesOf(recording), events: events.time.length, jobs: jobs.end.length };
  const sections = [
    new TextEncoder().encode(JSON.stringify(tables)),
    pack(events.time, true),
    pack(events.kind, false),
    pack(events.pcpu, false),
    pack(events.vcpu, false),
    pack(events.extra, false),
    pack(jobs.release, true),
    pack(jobs.deadline, true),
    pack(jobs.end, true),
  ];
  const size = sections.reduce((sum, section) => sum + 4 + section.length, MAGIC.length);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(MAGIC));
  let at = MAGIC.length;
  for (const section of sections) {
    view.setUint32(at, section.length, true);
    bytes.set(section, at + 4);
    at += 4 + section.length;
  }
  return bytes;
}

/** Reads a recording back. ConfigError with `name`, the file's. */
export function decodeRecording(bytes: Uint8Array, name: string): Recording {
  try {
    return decode(bytes);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ConfigError(
      `Recording ${name} cannot be read (${why}); make it anew with hookvisor lab run --keep-events.`,
      { cause: error },
    );
  }
}

function decode(bytes: Uint8Array): Recording {
  if (new TextDecoder("latin1").decode(bytes.subarray(0, MAGIC.length)) !== MAGIC)
    throw new RangeError("it is no recording of this version");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = MAGIC.length;
  const section = (): Uint8Array => {
    const length = view.getUint32(at, true);
    if (at + 4 + length > bytes.length) throw new RangeError("it ends too early");
    const part = bytes.subarray(at + 4, at + 4 + length);
    at += 4 + length;
    return part;
  };
  const tables = JSON.parse(new TextDecoder().decode(section())) as RecordingTables & { events: number; jobs: number };
  const { events: count, jobs, ...rest } = tables;
  // A row takes a byte a column at least, so that a wrong count cannot ask for more memory than the file has.
  if (!(count >= 0 && count <= bytes.length && jobs >= 0 && jobs <= bytes.length)) throw new RangeError("wrong counts");
  const recording: Recording = {
    ...rest,
    events: {
      time: unpack(section(), new Float64Array(count), true),
      kind: unpack(section(), new Uint8Array(count), false),
      pcpu: unpack(section(), new Int16Array(count), false),
      vcpu: unpack(section(), new Int32Array(count), false),
      extra: unpack(section(), new Int32Array(count), false),
    },
    jobs: {
      release: unpack(section(), new Float64Array(jobs), true),
      deadline: unpack(section(), new Float64Array(jobs), true),
      end: unpack(section(), new Float64Array(jobs), true),
    },
  };
  for (let i = 0; i < jobs; i++) if (recording.jobs.deadline[i] === NEVER) recording.jobs.deadline[i] = Infinity;
  return recording;
}
