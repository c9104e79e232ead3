/**
 * Runs a property on random inputs and says a failure so that a person can read it and run it again.
 *
 * fast-check makes the inputs and shrinks the one that fails. The message has, in this order: what was seen with the smallest input, what
 * happened in it in words, the input as JSON, how to run that one again, and what the first input that failed was told when that is something else.
 */
import fc from "fast-check";
import type { SchedulerUnderTest } from "./contract.ts";

/** What did not hold, and what had happened until then: a line each. */
export class Failure extends Error {
  readonly story: readonly string[];
  constructor(message: string, story: readonly string[], options?: ErrorOptions) {
    super(message, options);
    this.name = "Failure";
    this.story = story;
  }
}

/** How a property is explored. */
export interface Exploration<T> {
  /** Name of the property. */
  readonly name: string;
  /** Of a property that explores several kinds of inputs: which. It leads the path. */
  readonly part?: string;
  /** Random inputs, before `effort`. */
  readonly runs: number;
  readonly inputs: fc.Arbitrary<T>;
  /** Throws when it does not hold. */
  readonly body: (input: T) => void;
  /** The action that the property is about: what it is called, and whether an input has it. */
  readonly own?: { readonly what: string; readonly within: (input: T) => boolean };
  /** The input is a Plan, which replayLoad takes. */
  readonly replayable?: boolean;
}

/** Options of fast-check for `runs` random inputs. */
function options(under: SchedulerUnderTest, runs: number): fc.Parameters<unknown> {
  const { effort = 1, seed = 1, shrink = true } = under;
  const path = under.path?.split("/").at(-1);
  return {
    numRuns: Math.max(1, Math.round(runs * effort)),
    endOnFailure: !shrink,
    ...(seed === null ? {} : { seed }),
    ...(path === undefined ? {} : { path }),
    interruptAfterTimeLimit: 15_000 * Math.max(1, effort),
  };
}

/** Runs it; throws a Failure that says all of the above. */
export function explore<T>(under: SchedulerUnderTest, { name, runs, inputs, body, own, ...how }: Exploration<T>): void {
  // A path of another part's inputs says nothing of these.
  if (under.path !== undefined && under.path.split("/").at(-2) !== how.part) return;
  let first: string | null = null;
  const noting = (input: T): void => {
    try {
      body(input);
    } catch (error) {
      first ??= messageOf(error);
      throw error;
    }
  };
  const found = fc.check(fc.property(inputs, noting), options(under, runs));
  const { counterexample } = found;
  if (!found.failed || counterexample == null) return;
  const { errorInstance: error, numShrinks, numRuns, seed, counterexamplePath: path } = found;
  const [input] = counterexample as [T];
  const json = JSON.stringify(input);
  const said = messageOf(error);
  const again = { seed, path: how.part === undefined ? path : `${how.part}/${path}`, only: name };
  const lines = [
    said,
    "",
    `Found by input ${numRuns} of '${name}', made smaller ${numShrinks} times.`,
    ...(own !== undefined && !own.within(input)
      ? [
          `The smallest input that fails has no ${own.what}: what fails is not special to this property, which asks what is said above of every load.`,
        ]
      : []),
    ...(error instanceof Failure ? ["What happened:", ...error.story.map((line) => `  ${line}`)] : []),
    `Input: ${json}`,
    "To run this one again:",
    `  schedulerSuite(framework, { ...under, ${JSON.stringify(again).slice(1, -1)} })`,
    ...(how.replayable === true ? [`  replayLoad(under, ${json}, ${JSON.stringify(name)})`] : []),
    ...(first !== null && figureless(first) !== figureless(said)
      ? ["The first input that failed was told:", first]
      : []),
  ];
  throw new Failure(lines.join("\n"), error instanceof Failure ? error.story : [], { cause: error });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The first line without its numbers: two of the same kind are equal. */
function figureless(text: string): string {
  return text.split("\n", 1)[0]!.replace(/\d+/g, "#");
}
