/** A WebAssembly module under construction: imports, functions, exports; two memories may be imported. */
import { Code, type Expr, I32 } from "./code.ts";

/** A function's type: value types of its parameters and results. */
export interface FunctionType {
  readonly parameters: readonly number[];
  readonly results: readonly number[];
}

/** A function being written: `code` is its body; locals are declared as they are asked for. */
export class FunctionBody {
  readonly code: Code;
  readonly type: FunctionType;
  readonly locals: number[] = [];

  constructor(type: FunctionType, capacity = 1 << 12) {
    this.type = type;
    this.code = new Code(capacity);
  }

  /** Index of a new local of a value type (0 at the start of the function). */
  local(type: number): number {
    this.locals.push(type);
    return this.type.parameters.length + this.locals.length - 1;
  }

  write(...expressions: Expr[]): void {
    for (const expression of expressions) expression(this.code);
  }
}

export class ModuleBuilder {
  readonly #types: FunctionType[] = [];
  readonly #imports: { module: string; name: string; type?: number; pages?: number }[] = [];
  readonly #functions: (FunctionBody | undefined)[] = [];
  readonly #declared: number[] = [];
  readonly #exports: { name: string; index: number }[] = [];
  readonly #globals: number[] = [];
  #importedFunctions = 0;

  #type(type: FunctionType): number {
    const same = this.#types.findIndex(
      (t) => t.parameters.join() === type.parameters.join() && t.results.join() === type.results.join(),
    );
    return same >= 0 ? same : this.#types.push(type) - 1;
  }

  /** A memory of at least `minimum` pages of 64 KiB, whatever its maximum. */
  importMemory(module: string, name: string, minimum: number): void {
    this.#imports.push({ module, name, pages: minimum });
  }

  /** Imported functions come before any declared one. */
  importFunction(module: string, name: string, type: FunctionType): number {
    if (this.#declared.length > 0) throw new Error("imports come first");
    this.#imports.push({ module, name, type: this.#type(type) });
    return this.#importedFunctions++;
  }

  /** Reserves an index, so that functions can call each other; `define` gives the body. */
  declare(type: FunctionType): number {
    this.#declared.push(this.#type(type));
    this.#functions.push(undefined);
    return this.#importedFunctions + this.#declared.length - 1;
  }

  define(index: number, body: FunctionBody): void {
    this.#functions[index - this.#importedFunctions] = body;
  }

  /** A mutable i32 global, 0 at first. */
  global(): number {
    return this.#globals.push(I32) - 1;
  }

  export(name: string, index: number): void {
    this.#exports.push({ name, index });
  }

  /** The finished module's bytes. */
  bytes(): Uint8Array<ArrayBuffer> {
    const out = new Code(1 << 16);
    const section = (id: number, write: (w: Code) => void): void => {
      const w = new Code(1 << 12);
      write(w);
      out.u8(id);
      out.u32(w.length);
      out.raw(w.bytes.subarray(0, w.length));
    };
    out.raw(new Uint8Array([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]));
    section(1, (w) => {
      w.u32(this.#types.length);
      for (const type of this.#types) {
        w.u8(0x60);
        w.u32(type.parameters.length);
        for (const t of type.parameters) w.u8(t);
        w.u32(type.results.length);
        for (const t of type.results) w.u8(t);
      }
    });
    section(2, (w) => {
      w.u32(this.#imports.length);
      for (const item of this.#imports) {
        w.name(item.module);
        w.name(item.name);
        if (item.pages !== undefined) {
          w.u8(0x02);
          w.u8(0x00);
          w.u32(item.pages);
        } else {
          w.u8(0x00);
          w.u32(item.type ?? 0);
        }
      }
    });
    section(3, (w) => {
      w.u32(this.#declared.length);
      for (const type of this.#declared) w.u32(type);
    });
    if (this.#globals.length > 0) {
      section(6, (w) => {
        w.u32(this.#globals.length);
        for (const type of this.#globals) {
          w.u8(type);
          w.u8(1);
          w.i32(0);
          w.u8(0x0b);
        }
      });
    }
    section(7, (w) => {
      w.u32(this.#exports.length);
      for (const item of this.#exports) {
        w.name(item.name);
        w.u8(0x00);
        w.u32(item.index);
      }
    });
    section(10, (w) => {
      w.u32(this.#functions.length);
      for (const body of this.#functions) {
        if (body === undefined) throw new Error("a declared function has no body");
        const head = new Code(64 + 6 * body.locals.length);
        head.u32(body.locals.length);
        for (const type of body.locals) {
          head.u32(1);
          head.u8(type);
        }
        w.u32(head.length + body.code.length + 1);
        w.raw(head.bytes.subarray(0, head.length));
        w.raw(body.code.bytes.subarray(0, body.code.length));
        w.u8(0x0b);
      }
    });
    return out.bytes.slice(0, out.length);
  }
}
