/**
 * The image of a workload domain: which behaviour each vCPU has.
 *
 * JSON in UTF-8, one of: a behaviour (all vCPUs have it); a list of behaviours, one for each vCPU; { "seed", "vcpus" } with either of the two
 * in `vcpus`; an rt-app file, which has `tasks`. README.md describes them. What is wrong is an ImageError that names the place.
 */
import { ImageError } from "hookvisor";
import type { Plan } from "./behaviours/behaviour.ts";
import { readPlan } from "./behaviours/index.ts";
import { type Json, parseJson } from "./json.ts";
import { readRtApp } from "./rt-app/parse.ts";
import { Value } from "./value.ts";

export interface WorkloadImage {
  /** For each vCPU its own; null: all have `plans[0]`. */
  readonly vcpus: number | null;
  readonly plans: readonly Plan[];
  /** What each vCPU is called in the image: threads of rt-app; empty: nothing. */
  readonly names: readonly string[];
  /** Seed of the random streams; null: the machine's. */
  readonly seed: number | null;
  /** What the image says that has no meaning here. */
  readonly notes: readonly string[];
}

const MAX_BYTES = 64 << 20;

/** Reads an image. */
export function readImage(bytes: Uint8Array, name: string): WorkloadImage {
  const value = new Value(name, parse(bytes, name));
  if (value.isArray) return { ...readVcpus(value), seed: null, notes: [] };
  const keys = value.members().map((member) => member.key);
  if (keys.includes("behaviour")) return { ...readVcpus(value), seed: null, notes: [] };
  if (keys.includes("tasks")) {
    const file = readRtApp(value);
    return { ...file, vcpus: file.plans.length, seed: null };
  }
  if (!keys.includes("vcpus"))
    value.fail("must have the key 'behaviour', or 'vcpus', or the 'tasks' of an rt-app file");
  const fields = value.fields();
  const image = {
    ...readVcpus(fields.need("vcpus")),
    seed: fields.get("seed")?.whole(0, 0xffffffff) ?? null,
    notes: [],
  };
  fields.close("a workload");
  return image;
}

function readVcpus(value: Value): Pick<WorkloadImage, "vcpus" | "plans" | "names"> {
  if (!value.isArray) return { vcpus: null, plans: [readPlan(value.root())], names: [] };
  const plans = value.items(1).map((item) => readPlan(item.root()));
  return { vcpus: plans.length, plans, names: [] };
}

function parse(bytes: Uint8Array, name: string): Json {
  if (bytes.length > MAX_BYTES)
    throw new ImageError(`Workload ${name}: it has ${bytes.length} bytes, more than ${MAX_BYTES >> 20} MiB.`);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new ImageError(`Workload ${name}: it is no text in UTF-8; a workload is JSON.`);
  }
  try {
    return parseJson(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new ImageError(`Workload ${name}: ${error.message}.`);
  }
}
