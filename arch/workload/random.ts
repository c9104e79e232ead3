/**
 * Random streams and what is drawn from them.
 *
 * A stream is named by the seed, the domain's name, the vCPU and its purpose: nothing that other vCPUs draw, and no order of creation,
 * changes it. Equal names, equal numbers (sfc32, seeded through FNV-1a). A Variable is a duration or an amount of work as an image gives
 * it: always the same, or drawn anew each time.
 */
import type { DurationBounds, Value } from "./value.ts";

/** FNV-1a over UTF-16 code units, from a basis. */
function hash(text: string, basis: number): number {
  let h = basis;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

export class RandomStream {
  #a: number;
  #b: number;
  #c: number;
  #count = 1;
  #spare = NaN;

  constructor(seed: number, name: string) {
    this.#a = hash(name, 0x811c9dc5);
    this.#b = hash(name, 0x9e3779b9);
    this.#c = seed | 0;
    for (let i = 0; i < 15; i++) this.next();
  }

  /** 32 bits (sfc32). */
  next(): number {
    const sum = (this.#a + this.#b + this.#count) | 0;
    this.#count = (this.#count + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** Uniform in [0, 1), 53 bits. */
  uniform(): number {
    const high = this.next() >>> 5;
    return (high * 67108864 + (this.next() >>> 6)) / 9007199254740992;
  }

  /** A whole number in [0, count). */
  below(count: number): number {
    return Math.floor(this.uniform() * count);
  }

  /** Exponential with mean 1. */
  exponential(): number {
    return -Math.log(1 - this.uniform());
  }

  /** Normal with mean 0 and deviation 1 (Marsaglia's polar method). */
  normal(): number {
    const spare = this.#spare;
    if (!Number.isNaN(spare)) {
      this.#spare = NaN;
      return spare;
    }
    for (;;) {
      const u = 2 * this.uniform() - 1;
      const v = 2 * this.uniform() - 1;
      const s = u * u + v * v;
      if (s > 0 && s < 1) {
        const factor = Math.sqrt((-2 * Math.log(s)) / s);
        this.#spare = v * factor;
        return u * factor;
      }
    }
  }
}

/** How a Variable is distributed; a and b are the constant, the mean, the bounds, or mean and deviation. */
const Shape = Object.freeze({ constant: 0, uniform: 1, exponential: 2, normal: 3 });
type Shape = (typeof Shape)[keyof typeof Shape];

export class Variable {
  readonly #shape: Shape;
  readonly #a: number;
  readonly #b: number;
  readonly #min: number;

  private constructor(shape: Shape, a: number, b: number, min: number) {
    this.#shape = shape;
    this.#a = a;
    this.#b = b;
    this.#min = min;
  }

  static constant(value: number): Variable {
    return new Variable(Shape.constant, value, 0, value);
  }

  static exponential(mean: number, min = 1): Variable {
    return new Variable(Shape.exponential, mean, 0, min);
  }

  /**
   * Reads a duration, or one of { "uniform": [from, to] }, { "exponential": mean }, { "normal": [mean, deviation] }. What is drawn below
   * `min` becomes `min`.
   */
  static read(value: Value, bounds: DurationBounds = {}): Variable {
    const min = bounds.min ?? 0;
    if (!value.isObject) return new Variable(Shape.constant, value.duration(bounds), 0, min);
    const members = value.members();
    const one = members[0];
    if (members.length !== 1 || one === undefined)
      value.fail('must be a duration or have one key: "uniform", "exponential" or "normal"');
    if (one.key === "exponential")
      return new Variable(Shape.exponential, one.value.duration({ ...bounds, min }), 0, min);
    if (one.key !== "uniform" && one.key !== "normal")
      one.value.fail('is no distribution; there are "uniform", "exponential" and "normal"');
    const list: Value = one.value;
    const pair = list.items();
    const [first, second] = pair;
    if (first === undefined || second === undefined || pair.length !== 2)
      list.fail(one.key === "uniform" ? "must be [from, to]" : "must be [mean, deviation]");
    const a = first.duration({ ...bounds, min });
    if (one.key === "normal") return new Variable(Shape.normal, a, second.duration(), min);
    return new Variable(Shape.uniform, a, second.duration({ ...bounds, min: a }), min);
  }

  /** The next value: whole, at least the minimum. A constant draws nothing from the stream. */
  draw(stream: RandomStream): number {
    switch (this.#shape) {
      case Shape.constant:
        return this.#a;
      case Shape.uniform:
        return this.#a + stream.below(this.#b - this.#a + 1);
      case Shape.exponential:
        return Math.max(this.#min, Math.round(this.#a * stream.exponential()));
      default:
        return Math.max(this.#min, Math.round(this.#a + this.#b * stream.normal()));
    }
  }
}
