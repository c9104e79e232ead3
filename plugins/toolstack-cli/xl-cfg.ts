/**
 * Parser of xl.cfg: `KEY = VALUE`, separated by newlines or `;`, with `#` comments. A value is a string in ' or ", a number (decimal,
 * 0octal, 0xhex), or a list of values in brackets, which may span lines and nest. `KEY += VALUE` appends (as xl has it).
 *
 * Pure; errors are ConfigErrors that name source, line and column. A key given twice has its last value.
 */
import { ConfigError } from "hookvisor";

/** A value of xl.cfg. */
export type XlValue = string | number | readonly XlValue[];

/** A setting with its place. */
export interface XlSetting {
  readonly key: string;
  readonly value: XlValue;
  /** `guest.cfg:3:7`, for messages. */
  readonly place: string;
}

/** Settings by key, in the order of their last appearance. */
export type XlSettings = ReadonlyMap<string, XlSetting>;

const ESCAPES: Readonly<Record<string, string>> = {
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

class Parser {
  readonly #text: string;
  readonly #source: string;
  #at = 0;

  constructor(text: string, source: string) {
    this.#text = text;
    this.#source = source;
  }

  parse(): XlSettings {
    const settings = new Map<string, XlSetting>();
    for (;;) {
      this.#skip(true);
      while (this.#peek() === ";") {
        this.#at++;
        this.#skip(true);
      }
      if (this.#at >= this.#text.length) return settings;
      const start = this.#at;
      const place = this.#place(start);
      const key = this.#match(/[A-Za-z_][A-Za-z0-9_-]*/y);
      if (key === null) this.#fail(`expected a key such as memory, got ${this.#seen()}`);
      this.#skip(false);
      const operator = this.#match(/\+?=/y);
      if (operator === null) this.#fail(`expected '=' after '${key}', got ${this.#seen()}`);
      this.#skip(false);
      let value = this.value();
      const before = settings.get(key)?.value;
      if (operator === "+=" && before !== undefined) value = this.#append(key, before, value, start);
      settings.delete(key);
      settings.set(key, { key, value, place });
      this.#skip(false);
      const next = this.#peek();
      if (next !== "" && next !== "\n" && next !== ";")
        this.#fail(`expected the end of the line or ';' after the value of '${key}', got ${this.#seen()}`);
    }
  }

  /** One value, and nothing behind it. */
  only(): XlValue {
    this.#skip(true);
    const value = this.value();
    this.#skip(true);
    if (this.#at < this.#text.length) this.#fail(`expected nothing after the value, got ${this.#seen()}`);
    return value;
  }

  value(): XlValue {
    const first = this.#peek();
    if (first === "[") return this.#list();
    if (first === '"' || first === "'") return this.#string(first);
    const word = this.#match(/[0-9][0-9A-Za-z_]*/y);
    if (word === null)
      this.#fail(`expected a value (a string in quotes, a number, or a list in brackets), got ${this.#seen()}`);
    const number = parseXlNumber(word);
    if (number === null) {
      this.#at -= word.length;
      this.#fail(`'${word}' is no number (decimal, 0octal or 0xhex); put text in quotes`);
    }
    return number;
  }

  #list(): readonly XlValue[] {
    const open = this.#at++;
    const values: XlValue[] = [];
    for (;;) {
      this.#skip(true);
      if (this.#peek() === "]") {
        this.#at++;
        return values;
      }
      if (this.#at >= this.#text.length) this.#fail("this '[' is never closed; a ']' is missing", open);
      values.push(this.value());
      this.#skip(true);
      if (this.#peek() === ",") this.#at++;
      else if (this.#peek() !== "]" && this.#at < this.#text.length)
        this.#fail(`expected ',' or ']' in the list, got ${this.#seen()}`);
    }
  }

  #string(quote: string): string {
    const open = this.#at++;
    let text = "";
    for (;;) {
      const c = this.#text[this.#at];
      if (c === undefined || c === "\n") this.#fail(`this string is never closed; a ${quote} is missing`, open);
      this.#at++;
      if (c === quote) return text;
      text += c === "\\" ? this.#escape() : c;
    }
  }

  #escape(): string {
    const code = this.#match(/x[0-9a-fA-F]{1,2}|[0-7]{1,3}/y);
    if (code !== null)
      return String.fromCharCode(
        (code[0] === "x" ? Number.parseInt(code.slice(1), 16) : Number.parseInt(code, 8)) & 255,
      );
    const c = this.#text[this.#at] ?? "";
    this.#at++;
    return ESCAPES[c] ?? c;
  }

  #append(key: string, before: XlValue, value: XlValue, start: number): XlValue {
    if (typeof before === "string" && typeof value === "string") return before + value;
    if (typeof before === "object" && typeof value === "object") return [...before, ...value];
    return this.#fail(`'${key} +=' appends text to text or a list to a list, and these two are different`, start);
  }

  /** Skips blanks and comments; `lines`: newlines too. */
  #skip(lines: boolean): void {
    this.#match(lines ? /(?:[ \t\r\n]|\\\r?\n|#[^\n]*)*/y : /(?:[ \t\r]|\\\r?\n|#[^\n]*)*/y);
  }

  #match(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? null;
    if (found !== null) this.#at += found.length;
    return found;
  }

  #peek(): string {
    return this.#text[this.#at] ?? "";
  }

  #seen(): string {
    const c = this.#peek();
    if (c === "") return "the end";
    if (c === "\n") return "the end of the line";
    const word = /[A-Za-z0-9_.-]+/y;
    word.lastIndex = this.#at;
    return `'${(word.exec(this.#text)?.[0] ?? c).slice(0, 20)}'`;
  }

  #place(at: number): string {
    const before = this.#text.slice(0, at);
    const line = before.split("\n").length;
    return `${this.#source}:${line}:${at - before.lastIndexOf("\n")}`;
  }

  #fail(what: string, at = this.#at): never {
    throw new ConfigError(`${this.#place(at)}: ${what}.`);
  }
}

/** A number as xl.cfg writes it (C's strtoul with base 0); null: no number. */
export function parseXlNumber(word: string): number | null {
  if (!/^(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$/.test(word)) return null;
  const value = /^0[0-7]/.test(word) ? Number.parseInt(word, 8) : Number(word);
  return Number.isSafeInteger(value) ? value : null;
}

/** Parses a whole file. `source` is its name, for messages. */
export function parseXlConfig(text: string, source: string): XlSettings {
  return new Parser(text, source).parse();
}

/**
 * Parses the VALUE of a KEY=VALUE argument: as xl.cfg has it, else, where it is no number, list or quoted string, as plain text, because
 * the shell has taken the quotes.
 */
export function parseXlArgument(key: string, text: string): XlValue {
  if (/^\s*[["']/.test(text)) return new Parser(text, `${key}=`).only();
  return parseXlNumber(text.trim()) ?? text;
}
