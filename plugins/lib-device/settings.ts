/**
 * Specs of emulated devices: `KEY=VALUE,KEY=VALUE`, each key once, numbers decimal or with 0x.
 *
 * Pure; each error is one sentence with the spec and what would be right.
 */
import { ConfigError } from "hookvisor";

/** The settings of one device. */
export class Settings {
  readonly #what: string;
  readonly #spec: string;
  readonly #values = new Map<string, string>();

  /** `what` begins the messages ("UART"); ConfigError for a part that is no KEY=VALUE, a key that is not in `keys`, or one that is there twice. */
  constructor(what: string, spec: string, keys: readonly string[]) {
    this.#what = what;
    this.#spec = spec;
    for (const part of spec.split(",").map((one) => one.trim())) {
      if (part === "") continue;
      const match = /^([a-z][a-z_-]*)\s*=\s*(.*)$/s.exec(part);
      if (match === null) this.fail(`'${part}' is no KEY=VALUE; there are ${keys.join(", ")}`);
      const [, key = "", value = ""] = match;
      if (!keys.includes(key)) this.fail(`there is no parameter '${key}'; there are ${keys.join(", ")}`);
      if (this.#values.has(key)) this.fail(`it gives ${key} twice`);
      this.#values.set(key, value);
    }
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  /** A whole number within bounds; without the key `fallback`, which may be what no number is. */
  number<T>(key: string, least: number, most: number, fallback: T): number | T {
    const text = this.#values.get(key);
    if (text === undefined) return fallback;
    const value = /^(?:0x[0-9a-f]{1,12}|\d{1,15})$/i.test(text) ? Number(text) : Number.NaN;
    if (!(value >= least && value <= most))
      return this.fail(`${key} is '${text}'; it must be a number from ${show(least)} to ${show(most)}`);
    return value;
  }

  /** As `number`, and it must be given. */
  required(key: string, least: number, most: number): number {
    return this.number(key, least, most, null) ?? this.fail(`it gives no ${key}`);
  }

  choice<T extends string>(key: string, options: readonly T[], fallback: T): T {
    const text = this.#values.get(key);
    if (text === undefined) return fallback;
    return (
      options.find((option) => option === text) ?? this.fail(`${key} is '${text}'; it must be ${options.join(" or ")}`)
    );
  }

  fail(what: string): never {
    throw new ConfigError(`${this.#what} '${this.#spec}': ${what}.`);
  }
}

function show(value: number): string {
  return value > 0xffff ? `0x${value.toString(16)}` : String(value);
}
