/**
 * A JSON value with its place: what every behaviour reads its own keys with, so that a mistake is one sentence that names the place.
 *
 * `Fields.close` refuses keys that nobody asked for: a behaviour's keys are those that its reader asks for, listed nowhere else.
 */
import { ImageError, type Nanoseconds } from "hookvisor";
import type { Json } from "./json.ts";

/** Longest duration: 104 days, where virtual time ends. */
const LONGEST = Number.MAX_SAFE_INTEGER;
const UNITS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, min: 60e9 };

/** Bounds of a duration. */
export interface DurationBounds {
  readonly min?: Nanoseconds;
  readonly max?: Nanoseconds;
}

export class Value {
  /** What the image is called in messages. */
  readonly source: string;
  /** From the image's top, such as `vcpus[1].of[0].budget`; empty: the top. */
  readonly path: string;
  /** From the top of the behaviour of one vCPU: names its random streams, whatever is around it. */
  readonly scope: string;
  readonly json: Json;

  constructor(source: string, json: Json, path = "", scope = "") {
    this.source = source;
    this.json = json;
    this.path = path;
    this.scope = scope;
  }

  /** Throws ImageError: the image, the place, what is wrong. */
  fail(what: string): never {
    throw new ImageError(`Workload ${this.source}: ${this.path === "" ? "it" : this.path} ${what}.`);
  }

  /** What it is, for messages. */
  show(): string {
    const { json } = this;
    if (json.kind === "object") return "an object";
    if (json.kind === "array") return "a list";
    return json.kind === "null" ? "null" : JSON.stringify(json.value);
  }

  expected(what: string): never {
    return this.fail(`must be ${what}, got ${this.show()}`);
  }

  /** The value of a member or an item. */
  inner(json: Json, step: string): Value {
    const join = (base: string): string => (base === "" || step.startsWith("[") ? base + step : `${base}.${step}`);
    return new Value(this.source, json, join(this.path), join(this.scope));
  }

  /** The same value as the behaviour of one vCPU. */
  root(): Value {
    return new Value(this.source, this.json, this.path);
  }

  get isArray(): boolean {
    return this.json.kind === "array";
  }
  get isNull(): boolean {
    return this.json.kind === "null";
  }
  get isObject(): boolean {
    return this.json.kind === "object";
  }

  items(min = 0): Value[] {
    if (this.json.kind !== "array") this.expected("a list");
    if (this.json.items.length < min) this.fail(`must have at least ${min} ${min === 1 ? "item" : "items"}`);
    return this.json.items.map((item, i) => this.inner(item, `[${i}]`));
  }

  /** Members as they were written, a repeated key included. */
  members(): { readonly key: string; readonly value: Value }[] {
    if (this.json.kind !== "object") this.expected("an object");
    return this.json.members.map(({ key, value }) => ({ key, value: this.inner(value, key) }));
  }

  /** Members by key; a key that comes twice is refused. */
  fields(): Fields {
    const fields = new Map<string, Value>();
    for (const { key, value } of this.members()) {
      if (fields.has(key)) value.fail("comes twice; keep one of them");
      fields.set(key, value);
    }
    return new Fields(this, fields);
  }

  string(): string {
    if (this.json.kind !== "string") this.expected("a string");
    return this.json.value;
  }

  boolean(): boolean {
    if (this.json.kind !== "boolean") this.expected("true or false");
    return this.json.value;
  }

  number(min: number, max = Infinity): number {
    const range = max === Infinity ? `at least ${min}` : `from ${min} to ${max}`;
    const { json } = this;
    if (json.kind !== "number" || !(json.value >= min && json.value <= max)) this.expected(`a number ${range}`);
    return json.value;
  }

  whole(min: number, max: number = Number.MAX_SAFE_INTEGER): number {
    const range = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;
    const { json } = this;
    if (json.kind !== "number" || !Number.isInteger(json.value) || json.value < min || json.value > max)
      this.expected(`a whole number ${range}`);
    return json.value;
  }

  /** One of these words. */
  word<T extends string>(words: readonly T[]): T {
    const found = this.json.kind === "string" ? words.find((w) => w === this.string()) : undefined;
    if (found === undefined) this.expected(words.map((w) => `"${w}"`).join(" or "));
    return found;
  }

  /** Nanoseconds: a number, or a string with a unit such as "10ms"; whole. */
  duration({ min = 0, max = LONGEST }: DurationBounds = {}): Nanoseconds {
    const { json } = this;
    let ns: number | undefined;
    if (json.kind === "number") ns = json.value;
    else if (json.kind === "string") {
      const parts = /^\s*(\d+(?:\.\d+)?)\s*([a-zµ]+)\s*$/.exec(json.value);
      const unit = UNITS[parts?.[2] ?? ""];
      if (unit !== undefined) ns = Math.round(Number(parts![1]) * unit);
    }
    if (ns === undefined || !Number.isInteger(ns))
      this.expected('a duration: a whole number of nanoseconds, or a string such as "10ms" (ns, us, ms, s, min)');
    if (ns < min || ns > max)
      this.fail(
        max === LONGEST ? `must be at least ${min} ns, got ${ns} ns` : `must be from ${min} to ${max} ns, got ${ns} ns`,
      );
    return ns;
  }
}

export class Fields {
  /** The object. */
  readonly value: Value;
  readonly #fields: ReadonlyMap<string, Value>;
  readonly #asked = new Set<string>();

  constructor(value: Value, fields: ReadonlyMap<string, Value>) {
    this.value = value;
    this.#fields = fields;
  }

  /** The member, if it is there. */
  get(key: string): Value | undefined {
    this.#asked.add(key);
    return this.#fields.get(key);
  }

  /** The member, which must be there. */
  need(key: string): Value {
    const value = this.get(key);
    if (value === undefined) this.value.fail(`needs the key '${key}'`);
    return value;
  }

  /** Refuses what was not asked for; `what` names the object. */
  close(what: string): void {
    for (const [key, value] of this.#fields)
      if (!this.#asked.has(key)) value.fail(`is not a key of ${what}, which has ${[...this.#asked].join(", ")}`);
  }
}
