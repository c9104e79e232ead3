/**
 * Reading an experiment file: YAML with places by line and column, or a module (.ts, .js) whose default export is the experiment, or a function that
 * makes it of the parameters.
 *
 * Invariant: whatever is wrong with the file is a ConfigError of one sentence with the place.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { ConfigError } from "hookvisor";
import { LineCounter, parseDocument } from "yaml";
import { reasonOf } from "../../../core/node/load.ts";
import { defaultExport, importFile, installResolution, installTypeScript } from "../../../core/node/resolve.ts";
import type { ParameterValue } from "./model.ts";
import { complaint, modulePlaces, type Path, type Places, WrongAt, yamlPlaces } from "./places.ts";
import { showValue } from "./values.ts";

/** Values put in for `${name}`. */
export type Chosen = Readonly<Record<string, ParameterValue>>;

/** An experiment file that has been read. */
export interface ExperimentSource {
  /** As the user wrote it. */
  readonly file: string;
  readonly places: Places;
  /** What may be varied, in the order of the file. */
  readonly parameters: Readonly<Record<string, readonly ParameterValue[]>>;
  /** The experiment with the parameters put in; not checked yet. */
  make(chosen: Chosen): unknown;
}

const MODULE = /\.[cm]?[jt]s$/;
const YAML = /\.(ya?ml|json)$/;

/** Reads a file. */
export async function loadExperiment(file: string): Promise<ExperimentSource> {
  const path = resolve(file);
  if (!existsSync(path)) throw new ConfigError(`Experiment ${file}: there is no such file.`);
  if (statSync(path).isDirectory())
    throw new ConfigError(`Experiment ${file} is a folder; give a file that ends in .yaml or .ts.`);
  if (MODULE.test(path)) return loadModule(file, path);
  if (YAML.test(path)) return readYaml(readFileSync(path, "utf8"), file);
  throw new ConfigError(`Experiment ${file}: its name must end in .yaml, .yml, .json, .ts, .js or .mjs.`);
}

/** An experiment from YAML text. */
export function readYaml(text: string, file: string): ExperimentSource {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const error = document.errors[0];
  if (error !== undefined) {
    const { line, col } = lines.linePos(error.pos[0]);
    throw new ConfigError(`${file}:${line}:${col}: this is no YAML (${sentence(error.message)}).`, { cause: error });
  }
  const places = yamlPlaces(file, document, lines);
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 1000 });
  } catch (failed) {
    throw new ConfigError(`${file}:1:1: this is no YAML (${sentence((failed as Error).message)}).`, { cause: failed });
  }
  const parameters = declared(value, places);
  return { file, places, parameters, make: (chosen) => substitute(value, chosen, places, []) };
}

function sentence(message: string): string {
  return message.split("\n")[0]!.replace(/\.$/, "");
}

async function loadModule(file: string, path: string): Promise<ExperimentSource> {
  let module: Record<string, unknown>;
  try {
    installResolution();
    if (/\.[cm]?ts$/.test(path)) await installTypeScript();
    module = await importFile(path);
  } catch (error) {
    throw new ConfigError(`Experiment ${file} cannot be loaded: ${reasonOf(error)}.`, { cause: error });
  }
  const given = defaultExport(module);
  const places = modulePlaces(file);
  if (typeof given === "function") {
    const parameters = declared({ parameters: module["parameters"] }, places);
    const make = (chosen: Chosen): unknown => {
      try {
        return plain((given as (parameters: Chosen) => unknown)(chosen), places);
      } catch (error) {
        if (error instanceof ConfigError) throw error;
        throw new ConfigError(`Experiment ${file}: its function failed: ${reasonOf(error)}.`, { cause: error });
      }
    };
    return { file, places, parameters, make };
  }
  if (typeof given !== "object" || given === null)
    throw new ConfigError(
      `Experiment ${file}: its default export must be an experiment or a function that returns one, got ${given === undefined ? "nothing" : showValue(given)}.`,
    );
  const value = plain(given, places);
  return {
    file,
    places,
    parameters: declared(value, places),
    make: (chosen) => substitute(value, chosen, places, []),
  };
}

/** Only what JSON can say crosses to workers and into the manifest. */
function plain(value: unknown, places: Places): unknown {
  const path = firstOdd(value, [], new Set());
  if (path !== null) throw complaint(places, path.path, `it must be plain data, and this is ${path.what}`);
  return structuredClone(value);
}

function firstOdd(value: unknown, path: Path, above: Set<object>): { path: Path; what: string } | null {
  if (typeof value === "function") return { path, what: "a function" };
  if (typeof value === "symbol" || typeof value === "bigint") return { path, what: `a ${typeof value}` };
  if (typeof value !== "object" || value === null) return null;
  if (above.has(value)) return { path, what: "a reference to what it is in" };
  above.add(value);
  for (const [key, one] of Object.entries(value)) {
    const odd = firstOdd(one, [...path, Array.isArray(value) ? Number(key) : key], above);
    if (odd !== null) return odd;
  }
  above.delete(value);
  return null;
}

/** The parameters that a file declares: checked here, since they are needed before the rest can be. */
function declared(value: unknown, places: Places): Readonly<Record<string, readonly ParameterValue[]>> {
  const given = (value as { readonly parameters?: unknown } | null | undefined)?.parameters;
  if (given === undefined) return {};
  const wrong = (path: Path, message: string): never => {
    throw complaint(places, path, message);
  };
  if (typeof given !== "object" || given === null || Array.isArray(given))
    return wrong(["parameters"], "'parameters' must be an object of lists, such as { weight: [128, 256] }");
  for (const [key, values] of Object.entries(given)) {
    if (!/^[A-Za-z_]\w*$/.test(key))
      wrong(["parameters", key], `a parameter's name is made of letters, digits and '_', got '${key}'`);
    if (!Array.isArray(values) || values.length === 0)
      wrong(["parameters", key], `'${key}' must be a list of values, got ${showValue(values)}`);
    for (const [i, one] of (values as unknown[]).entries())
      if (!["string", "number", "boolean"].includes(typeof one))
        wrong(
          ["parameters", key, i],
          `a parameter's value is a number, a text or true or false, got ${showValue(one)}`,
        );
  }
  return given as Readonly<Record<string, readonly ParameterValue[]>>;
}

const WHOLE = /^\$\{(\w+)\}$/;
const PART = /\$\{(\w+)\}/g;

/** Puts parameters in: a text that is `${name}` and nothing else becomes the value itself. */
function substitute(value: unknown, chosen: Chosen, places: Places, path: Path): unknown {
  if (typeof value === "string") {
    const look = (name: string): ParameterValue => {
      if (Object.hasOwn(chosen, name)) return chosen[name]!;
      throw complaint(
        places,
        path,
        `there is no parameter '${name}'; ${Object.keys(chosen).length === 0 ? "declare it in 'parameters'" : `there are ${Object.keys(chosen).join(", ")}`}`,
      );
    };
    const whole = WHOLE.exec(value);
    if (whole !== null) return look(whole[1]!);
    return value.replace(PART, (_all, name: string) => String(look(name)));
  }
  if (Array.isArray(value)) return value.map((one, i) => substitute(one, chosen, places, [...path, i]));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => [
      key,
      path.length === 0 && key === "parameters" ? one : substitute(one, chosen, places, [...path, key]),
    ]),
  );
}

/** Every combination of the parameters' values, the last one varying fastest. */
export function combinations(parameters: Readonly<Record<string, readonly ParameterValue[]>>): readonly Chosen[] {
  let all: Chosen[] = [{}];
  for (const [name, values] of Object.entries(parameters))
    all = all.flatMap((one) => values.map((value) => ({ ...one, [name]: value })));
  return all;
}

/** The first value of each parameter, or the one that `given` (NAME=VALUE texts) says. */
export function chooseParameters(source: ExperimentSource, given: readonly string[]): Chosen {
  const chosen: Record<string, ParameterValue> = {};
  for (const [name, values] of Object.entries(source.parameters)) chosen[name] = values[0]!;
  for (const text of given) {
    const match = /^(\w+)=(.*)$/s.exec(text);
    const name = match?.[1];
    if (name === undefined) throw new ConfigError(`--set ${text}: it must be NAME=VALUE, such as weight=256.`);
    if (!Object.hasOwn(chosen, name))
      throw new ConfigError(
        `--set ${text}: ${source.file} has no parameter '${name}'; ${Object.keys(chosen).length === 0 ? "it has none" : `it has ${Object.keys(chosen).join(", ")}`}.`,
      );
    chosen[name] = parameterOf(match![2]!);
  }
  return chosen;
}

function parameterOf(text: string): ParameterValue {
  if (text === "true" || text === "false") return text === "true";
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

/** Runs `make`; a WrongAt becomes a ConfigError with the place. */
export function placed<T>(places: Places, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (error instanceof WrongAt) throw complaint(places, error.path, error.message, error);
    throw error;
  }
}
