/**
 * Where things are written: from a path of keys to `file:line:column` (YAML) or `file: domains[0].vcpus` (TypeScript).
 *
 * Every complaint about an experiment is one ConfigError that begins with such a place.
 */
import { ConfigError } from "hookvisor";
import { type Document, isMap, isScalar, isSeq, type LineCounter, type Node } from "yaml";

/** Keys and indices from the top. */
export type Path = readonly (string | number)[];

/** An experiment is wrong at a path; whoever knows the file makes a ConfigError of it. */
export class WrongAt extends Error {
  readonly path: Path;
  constructor(path: Path, message: string) {
    super(message);
    this.path = path;
  }
}

/** `domains[0].vcpus`; empty: the experiment. */
export function showPath(path: Path): string {
  return path.map((part, i) => (typeof part === "number" ? `[${part}]` : i === 0 ? part : `.${part}`)).join("");
}

/** Knows where the parts of one experiment file are. */
export interface Places {
  readonly file: string;
  /** `file:line:column`, or `file: path`. `key`: the key itself and not its value. */
  at(path: Path, key?: boolean): string;
}

/** Places of a module. */
export function modulePlaces(file: string): Places {
  return { file, at: (path) => (path.length === 0 ? file : `${file}: ${showPath(path)}`) };
}

/** Places of a YAML document. */
export function yamlPlaces(file: string, document: Document, lines: LineCounter): Places {
  return {
    file,
    at(path, key = false) {
      let node: Node | null = document.contents as Node | null;
      let place: Node | null = node;
      for (const [i, part] of path.entries()) {
        const last = i === path.length - 1;
        if (isMap(node)) {
          const pair = node.items.find((one) => isScalar(one.key) && String(one.key.value) === String(part));
          if (pair === undefined) break;
          node = (pair.value as Node | null) ?? null;
          place = last && key ? (pair.key as Node) : (node ?? (pair.key as Node));
        } else if (isSeq(node)) {
          node = (node.items[Number(part)] as Node | undefined) ?? null;
          if (node === null) break;
          place = node;
        } else break;
      }
      const offset = place?.range?.[0];
      if (offset === undefined) return `${file}:1:1`;
      const { line, col } = lines.linePos(offset);
      return `${file}:${line}:${col}`;
    },
  };
}

/** The error as the user sees it. */
export function complaint(places: Places, path: Path, message: string, cause?: unknown, key = false): ConfigError {
  return new ConfigError(`${places.at(path, key)}: ${message}${/[.?!]$/.test(message) ? "" : "."}`, { cause });
}
