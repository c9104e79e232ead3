/**
 * JSON as people write workloads: read with the order of members kept, and with what rt-app's files have beyond JSON.
 *
 * Taken beyond RFC 8259: comments (slash-slash and slash-star), a comma after the last member, and a key that comes again (rt-app: a
 * sequence of events). Whether a key may come again is the reader's to judge. Nothing is executed, depth is bounded, and a mistake is a
 * SyntaxError with line and column.
 */

/** A JSON value; an object keeps its members as they were written. */
export type Json =
  | { readonly kind: "object"; readonly members: readonly JsonMember[] }
  | { readonly kind: "array"; readonly items: readonly Json[] }
  | { readonly kind: "string"; readonly value: string }
  | { readonly kind: "number"; readonly value: number }
  | { readonly kind: "boolean"; readonly value: boolean }
  | { readonly kind: "null" };

export interface JsonMember {
  readonly key: string;
  readonly value: Json;
}

const MAX_DEPTH = 100;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /[A-Za-z]+/y;
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

/** Parses a text; SyntaxError says where it is not JSON. */
export function parseJson(text: string): Json {
  return new Parser(text).document();
}

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  document(): Json {
    const value = this.#value(0);
    this.#space();
    if (this.#at < this.#text.length) this.#fail("expected the end");
    return value;
  }

  #fail(expected: string): never {
    const before = this.#text.slice(0, this.#at).split("\n");
    const got = this.#at < this.#text.length ? JSON.stringify(this.#text[this.#at]) : "the end";
    const column = before[before.length - 1]!.length + 1;
    throw new SyntaxError(`line ${before.length}, column ${column}: ${expected}, got ${got}`);
  }

  #space(): void {
    const text = this.#text;
    for (;;) {
      const c = text[this.#at];
      if (c === " " || c === "\t" || c === "\n" || c === "\r") this.#at++;
      else if (c === "/" && (text[this.#at + 1] === "/" || text[this.#at + 1] === "*")) this.#comment();
      else return;
    }
  }

  #comment(): void {
    const mark = this.#text[this.#at + 1] === "/" ? "\n" : "*/";
    const end = this.#text.indexOf(mark, this.#at + 2);
    if (end < 0 && mark === "*/") this.#fail("expected a comment that ends");
    this.#at = end < 0 ? this.#text.length : end + mark.length;
  }

  #value(depth: number): Json {
    if (depth > MAX_DEPTH) this.#fail(`expected at most ${MAX_DEPTH} levels`);
    this.#space();
    const c = this.#text[this.#at];
    if (c === "{") return this.#object(depth);
    if (c === "[") return this.#array(depth);
    if (c === '"') return { kind: "string", value: this.#string() };
    NUMBER.lastIndex = this.#at;
    const number = NUMBER.exec(this.#text);
    if (number !== null) {
      this.#at = NUMBER.lastIndex;
      return { kind: "number", value: Number(number[0]) };
    }
    WORD.lastIndex = this.#at;
    const word = WORD.exec(this.#text)?.[0].toLowerCase();
    if (word !== "true" && word !== "false" && word !== "null") this.#fail("expected a value");
    this.#at = WORD.lastIndex;
    return word === "null" ? { kind: "null" } : { kind: "boolean", value: word === "true" };
  }

  #object(depth: number): Json {
    const members: JsonMember[] = [];
    this.#list("}", () => {
      if (this.#text[this.#at] !== '"') this.#fail("expected a key in quotes or '}'");
      const key = this.#string();
      this.#space();
      if (this.#text[this.#at] !== ":") this.#fail("expected ':' after the key");
      this.#at++;
      members.push({ key, value: this.#value(depth + 1) });
    });
    return { kind: "object", members };
  }

  #array(depth: number): Json {
    const items: Json[] = [];
    this.#list("]", () => {
      items.push(this.#value(depth + 1));
    });
    return { kind: "array", items };
  }

  /** What is between the brackets, of which the first is under the cursor. */
  #list(close: string, item: () => void): void {
    this.#at++;
    this.#space();
    while (this.#text[this.#at] !== close) {
      item();
      this.#space();
      if (this.#text[this.#at] === ",") {
        this.#at++;
        this.#space();
      } else if (this.#text[this.#at] !== close) this.#fail(`expected ',' or '${close}'`);
    }
    this.#at++;
  }

  #string(): string {
    let out = "";
    this.#at++;
    for (;;) {
      const c = this.#text[this.#at];
      if (c === undefined || c < " ") this.#fail("expected a string that ends on its line");
      if (c === '"') break;
      if (c === "\\") out += this.#escape();
      else {
        out += c;
        this.#at++;
      }
    }
    this.#at++;
    return out;
  }

  #escape(): string {
    const c = this.#text[this.#at + 1] ?? "";
    if (c === "u") {
      const hex = this.#text.slice(this.#at + 2, this.#at + 6);
      if (!/^[0-9a-fA-F]{4}$/.test(hex)) this.#fail("expected four hexadecimal digits after \\u");
      this.#at += 6;
      return String.fromCharCode(Number.parseInt(hex, 16));
    }
    const out = ESCAPES[c];
    if (out === undefined) this.#fail("expected an escape of JSON");
    this.#at += 2;
    return out;
  }
}
