/**
 * Reads an rt-app file: which threads there are, and what each does. A thread is a vCPU.
 *
 * Taken as rt-app and workgen take it: a key that comes again is a further event, and an event's key may have anything after its name ("run0").
 * Times are in microseconds. What has no meaning for a vCPU (priorities, affinities, logs) is noted with its place, not refused;
 * what would change the work (fork, the format of before 2014) is refused.
 */
import type { Nanoseconds } from "hookvisor";
import type { Plan } from "../behaviours/behaviour.ts";
import type { Group } from "../group.ts";
import type { Value } from "../value.ts";
import { EventKind, type RtEvent, type RtPhase, RtShared, type RtThread, threadPlan } from "./program.ts";

/** What a file means. */
export interface RtFile {
  /** One for each vCPU. */
  readonly plans: readonly Plan[];
  readonly names: readonly string[];
  /** What the file says that has no meaning here: one sentence each. */
  readonly notes: readonly string[];
}

/** Bytes that an instruction of `mem` and `iorun` writes. */
const BYTES_PER_INSTRUCTION = 8;

/** Most threads, as a domain has vCPUs. */
const MAX_THREADS = 1024;
/** rt-app holds them in an int. */
const INT_MAX = 0x7fffffff;

/** Scheduling and logging: by key, what is said of it. */
const NOTED: Readonly<Record<string, string>> = {
  policy: "a domain's vCPUs are scheduled by its pool's scheduler",
  priority: "give the domain the scheduler's own parameters",
  "dl-runtime": "give the domain the scheduler's own parameters",
  "dl-period": "give the domain the scheduler's own parameters",
  "dl-deadline": "give the domain the scheduler's own parameters",
  period: "give the domain the scheduler's own parameters",
  deadline: "give the domain the scheduler's own parameters",
  util_min: "there is no utilisation clamping",
  util_max: "there is no utilisation clamping",
  cpus: "give the domain or its vCPUs an affinity",
  nodes_membind: "a workload has no memory",
  membind_nodes: "a workload has no memory",
  taskgroup: "there are no task groups",
};

/** Keys of the format of before 2014. */
const OLD = ["exec", "lock_order", "resources"];

/** Events by the beginning of their key, the longer names first. */
const EVENTS = [
  "suspend",
  "runtime",
  "barrier",
  "unlock",
  "signal",
  "resume",
  "sleep",
  "timer",
  "broad",
  "iorun",
  "yield",
  "lock",
  "wait",
  "sync",
  "fork",
  "run",
  "mem",
] as const;
type EventName = (typeof EVENTS)[number];

/** Keys of `global` that change nothing here. */
const GLOBAL_IGNORED = [
  "calibration",
  "default_policy",
  "pi_enabled",
  "lock_pages",
  "logdir",
  "log_basename",
  "log_size",
  "ftrace",
  "gnuplot",
  "io_device",
  "mem_buffer_size",
  "cumulative_slack",
  "frag",
];

class Reader {
  /** By key: the first place, how many there are, what is said. */
  readonly #notes = new Map<string, { readonly place: string; count: number; readonly reason: string }>();
  readonly #shared = new WeakMap<Group, RtShared>();
  #duration: Nanoseconds = Infinity;

  read(file: Value): RtFile {
    let tasks: Value | undefined;
    for (const { key, value } of file.members()) {
      if (key === "tasks") tasks = value;
      else if (key === "global") this.#readGlobal(value);
      else if (key !== "resources") value.fail("is no part of an rt-app file, which has tasks, global and resources");
    }
    const plans: Plan[] = [];
    const names: string[] = [];
    for (const { key, value } of tasks!.members()) {
      const { thread, instances } = this.#thread(key, value);
      if (names.length + instances > MAX_THREADS) value.fail(`makes more than ${MAX_THREADS} threads`);
      const plan = threadPlan(thread, (group) => this.#sharedOf(group));
      for (let i = 0; i < instances; i++) {
        plans.push(plan);
        names.push(instances === 1 ? key : `${key}-${i}`);
      }
    }
    if (plans.length === 0) tasks!.fail("has no thread");
    return { plans, names, notes: this.#sentences() };
  }

  #sharedOf(group: Group): RtShared {
    let shared = this.#shared.get(group);
    if (shared === undefined) {
      shared = new RtShared();
      this.#shared.set(group, shared);
    }
    return shared;
  }

  #sentences(): string[] {
    return [...this.#notes.values()].map(
      ({ place, count, reason }) => `${place}${count > 1 ? ` and ${count - 1} more` : ""}: ignored, ${reason}`,
    );
  }

  #note(key: string, value: Value, reason: string): void {
    const note = this.#notes.get(key);
    if (note === undefined) this.#notes.set(key, { place: value.path, count: 1, reason });
    else note.count++;
  }

  #readGlobal(value: Value): void {
    for (const { key, value: member } of value.members())
      if (key === "duration") {
        const seconds = member.whole(-1, INT_MAX);
        this.#duration = seconds < 0 ? Infinity : seconds * 1e9;
      } else if (!GLOBAL_IGNORED.includes(key)) this.#note(key, member, "rt-app has no such key");
  }

  #thread(name: string, value: Value): { readonly thread: RtThread; readonly instances: number } {
    let instances = 1;
    let delay = 0;
    let loop = Infinity;
    let phases: RtPhase[] | undefined;
    const events: RtEvent[] = [];
    const members = value.members();
    const hasPhases = members.some(({ key }) => key === "phases");
    for (const { key, value: member } of members) {
      if (key === "instance") instances = member.whole(0, MAX_THREADS);
      else if (key === "delay") delay = member.whole(0, INT_MAX) * 1000;
      else if (key === "loop") loop = readLoop(member);
      else if (key === "phases") phases = member.members().map((phase) => this.#phase(name, phase.value));
      else if (OLD.includes(key))
        member.fail("is of rt-app's format of before 2014; write it with run, lock, unlock and timer");
      // Beside phases, `runtime` is the old name of dl-runtime.
      else if (key === "runtime" && hasPhases) this.#note("dl-runtime", member, NOTED["dl-runtime"]!);
      else if (!this.#noted(key, member)) {
        if (hasPhases) member.fail("is no key of a thread that has phases");
        this.#event(name, key, member, events);
      }
    }
    phases ??= [{ loop: 1, events }];
    const works = (phase: RtPhase): boolean => phase.loop > 0 && phase.events.some(takesTime);
    phases.forEach((phase, i) => {
      if (phase.loop === Infinity && !works(phase))
        value.fail(`has phase ${i + 1} that loops for ever and never runs or sleeps`);
    });
    if (loop === Infinity && !phases.some(works)) value.fail("loops for ever and never runs or sleeps");
    return { thread: { delay, loop, phases, duration: this.#duration }, instances };
  }

  #phase(thread: string, value: Value): RtPhase {
    let loop = 1;
    const events: RtEvent[] = [];
    for (const { key, value: member } of value.members())
      if (key === "loop") loop = readLoop(member);
      else if (!this.#noted(key, member)) this.#event(thread, key, member, events);
    return { loop, events };
  }

  #noted(key: string, value: Value): boolean {
    const reason = NOTED[key];
    if (reason !== undefined) this.#note(key, value, reason);
    return reason !== undefined;
  }

  #event(thread: string, key: string, value: Value, events: RtEvent[]): void {
    const name = EVENTS.find((one) => key.startsWith(one));
    if (name === undefined) value.fail("is neither an event nor a property that rt-app has");
    if (name === "fork") value.fail("can't be done, a domain's vCPUs are fixed; give the task an 'instance' instead");
    events.push(this.#made(name, thread, value));
  }

  #made(name: EventName, thread: string, value: Value): RtEvent {
    switch (name) {
      case "run":
      case "runtime":
      case "sleep":
        return event(EventKind[name], { amount: value.whole(0, INT_MAX) * 1000 });
      case "mem":
      case "iorun": {
        this.#note(name, value, `but for its CPU time, an instruction for ${BYTES_PER_INSTRUCTION} bytes`);
        return event(EventKind.run, { amount: Math.ceil(value.whole(0, INT_MAX) / BYTES_PER_INSTRUCTION) });
      }
      case "timer":
        return timerEvent(value);
      case "wait":
      case "sync": {
        const fields = value.fields();
        const ref = fields.need("ref").string();
        const mutex = fields.need("mutex").string();
        fields.close(`'${name}'`);
        return event(EventKind[name], { ref, mutex });
      }
      case "yield":
        if (!value.isNull) value.string();
        return event(EventKind.yield, {});
      case "suspend":
        return event(EventKind.suspend, { ref: value.string() || thread });
      case "fork":
        return value.fail("can't be done");
      default: {
        const ref = value.string();
        if (ref === "") value.fail("must name something");
        return event(EventKind[name], { ref });
      }
    }
  }
}

function takesTime({ kind, amount }: RtEvent): boolean {
  return kind <= EventKind.timer && amount > 0;
}

function event(kind: EventKind, parts: { amount?: number; ref?: string; mutex?: string; relative?: boolean }): RtEvent {
  return { kind, amount: 0, ref: "", mutex: "", relative: true, ...parts };
}

function timerEvent(value: Value): RtEvent {
  const fields = value.fields();
  const made = event(EventKind.timer, {
    ref: fields.need("ref").string(),
    amount: fields.need("period").whole(1, INT_MAX) * 1000,
    relative: fields.get("mode")?.word(["relative", "absolute"]) !== "absolute",
  });
  fields.close("'timer'");
  return made;
}

function readLoop(value: Value): number {
  const loop = value.whole(-1, INT_MAX);
  return loop < 0 ? Infinity : loop;
}

/** Reads an rt-app file; ImageError with the place otherwise. */
export function readRtApp(file: Value): RtFile {
  return new Reader().read(file);
}
