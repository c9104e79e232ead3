/**
 * The ARINC 653 scheduler: the pool's time is cut into major frames, a frame into windows, and a window belongs to one unit whether it
 * has anything to do or not.
 *
 * Source: Xen's common/sched/arinc653.c; where this departs from it, README.md says so. A decision looks up the window that the present
 * time lies in; nothing is counted, so nothing drifts. A timer at the window's end makes the pCPUs look again; should it be lost, slices do.
 * Invariants: while an awake unit has a window, a timer is armed for the end of the present one, or some pCPU is about to look; at any time one window at most is open in the pool; its unit runs on its own pCPU (`home`), all others idle; a home changes only
 * when the pCPU leaves the unit's hard affinity; without a table each unit has one window of 10 ms, in the order of insertion.
 */
import type {
  Decision,
  Domain,
  Nanoseconds,
  ParamValues,
  Scheduler,
  SchedulerHost,
  SchedulerPcpu,
  SchedulerStateObject,
  SchedulingUnit,
  Timer,
} from "hookvisor";
import { MajorFrame } from "./frame.ts";
import { checkTable, poolParams, type Row, rowsOf } from "./params.ts";

/** A window where no table is set (Xen gives it to domain 0's vCPUs: DEFAULT_TIMESLICE). */
const DEFAULT_WINDOW: Nanoseconds = 10_000_000;
/** In a longer frame nobody is said to be entitled: a turn may be further away than what a watchdog of the core waits for. */
const LONG_FRAME: Nanoseconds = 10_000_000_000;

/** A window's end that its timer has not brought is noticed so much later. */
const LOST_TIMER: Nanoseconds = 100_000;
const IDLE: Decision = Object.freeze({ unit: null, slice: null });

/** What is known of a unit. */
interface Known {
  awake: boolean;
  /** The pCPU's id. */
  home: number;
  /** Windows that are its own. */
  windows: number;
  /** How many vCPUs it had when the table was looked through for it: with a coarse granularity they join one by one. */
  vcpus: number;
}

interface Saved extends SchedulerStateObject {
  readonly schedule: readonly { readonly domain: string; readonly vcpu: number; readonly runtime_ns: number }[];
  readonly major_frame_ns: number;
  /** How far the present frame had got. */
  readonly phase: number;
  /** Units with their homes, in the order of insertion. */
  readonly units: readonly (readonly [unit: number, home: number])[];
}

export class Arinc653Scheduler implements Scheduler {
  readonly params = { pool: poolParams };
  readonly #host: SchedulerHost;
  readonly #units = new Map<SchedulingUnit, Known>();
  /** The table; empty: the default schedule. */
  #rows: readonly Row[] = [];
  #majorFrame: Nanoseconds = 0;
  /** Whose window it is, by the frame's index; null: nobody of that name is here. */
  #owners: (SchedulingUnit | null)[] = [];
  #frame: MajorFrame;
  /** Awake units that have a window. */
  #awake = 0;
  #timer: Timer | null = null;

  constructor(host: SchedulerHost) {
    this.#host = host;
    this.#frame = new MajorFrame(host.now());
  }

  // ---- units -----------------------------------------------------------------------------------

  insertUnit(unit: SchedulingUnit, now: Nanoseconds): void {
    const known: Known = { awake: false, home: homeOf(unit, -1), windows: 0, vcpus: unit.vcpus.length };
    this.#units.set(unit, known);
    if (this.#rows.length > 0) {
      this.#claim(unit);
      return;
    }
    known.windows = 1;
    this.#owners.push(unit);
    this.#frame.append(DEFAULT_WINDOW, now);
  }

  removeUnit(unit: SchedulingUnit, now: Nanoseconds): void {
    const known = this.#units.get(unit)!;
    this.#units.delete(unit);
    if (this.#rows.length > 0) {
      if (known.windows > 0) this.#resolve();
      return;
    }
    const index = this.#owners.indexOf(unit);
    this.#frame.locate(now);
    const present = this.#frame.index === index;
    this.#owners.splice(index, 1);
    this.#frame.remove(index, now);
    if (present) this.#tickleAll();
  }

  wake(unit: SchedulingUnit, now: Nanoseconds): void {
    const known = this.#units.get(unit)!;
    known.awake = true;
    if (known.windows > 0) this.#awake++;
    if (known.vcpus !== unit.vcpus.length) {
      known.vcpus = unit.vcpus.length;
      if (this.#rows.length > 0) this.#claim(unit);
    }
    this.#look(now);
    if (this.#owners[this.#frame.index] === unit) this.#tickle(known.home);
  }

  sleep(unit: SchedulingUnit): void {
    const known = this.#units.get(unit)!;
    known.awake = false;
    if (known.windows > 0) this.#awake--;
    if (this.#awake === 0) this.#disarm();
  }

  affinityChanged(unit: SchedulingUnit): void {
    const known = this.#units.get(unit)!;
    known.home = homeOf(unit, known.home);
  }

  // ---- pCPUs -----------------------------------------------------------------------------------

  doSchedule(pcpu: SchedulerPcpu, now: Nanoseconds): Decision {
    this.#look(now, pcpu);
    if (this.#awake === 0) return IDLE;
    const { index, until } = this.#frame;
    const unit = this.#owners[index] ?? null;
    const runs = unit?.runnable && this.#units.get(unit)!.home === pcpu.id;
    return { unit: runs ? unit : null, slice: until - now + LOST_TIMER };
  }

  /** Finds the present window, and sees that its end will be noticed; `asking` is a pCPU that is about to choose. */
  #look(now: Nanoseconds, asking: SchedulerPcpu | null = null): void {
    const frame = this.#frame;
    const before = frame.until;
    frame.locate(now);
    if (this.#awake === 0) return;
    if (frame.until !== before) this.#switch(asking);
    if (this.#timer?.at === frame.until) return;
    this.#disarm();
    this.#timer = this.#host.timer(frame.until, (at) => {
      this.#timer = null;
      this.#look(at);
    });
  }

  #disarm(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** A window begins: who runs has to leave, whose window it is may come. */
  #switch(asking: SchedulerPcpu | null): void {
    const owner = this.#owners[this.#frame.index] ?? null;
    const home = owner?.runnable ? this.#units.get(owner)!.home : -1;
    for (const pcpu of this.#host.pcpus)
      if (pcpu !== asking && (pcpu.currentUnit !== null || pcpu.id === home)) this.#host.tickle(pcpu);
  }

  pcpuAdded(): void {} // homes stay where they are

  pcpuRemoved(): void {} // it was in the affinity of each unit that had its home there, so affinityChanged has been called for them

  // ---- parameters ------------------------------------------------------------------------------

  adjust(_target: Domain | SchedulingUnit | null, values: ParamValues): number {
    const { schedule, major_frame_ns } = values as { schedule?: ParamValues[string]; major_frame_ns?: number };
    const rows = schedule === undefined ? this.#rows : rowsOf(schedule);
    const majorFrame = major_frame_ns ?? this.#majorFrame;
    const errno = checkTable(rows, majorFrame);
    if (errno !== 0) return errno;
    this.#install(rows, majorFrame, this.#host.now());
    this.#tickleAll();
    return 0;
  }

  read(target: Domain | SchedulingUnit | null): ParamValues {
    return target === null ? { schedule: this.#rows.map((row) => ({ ...row })), major_frame_ns: this.#majorFrame } : {};
  }

  entitled(unit: SchedulingUnit): boolean {
    return (this.#units.get(unit)?.windows ?? 0) > 0 && this.#frame.length <= LONG_FRAME;
  }

  // ---- the table -------------------------------------------------------------------------------

  /** A schedule takes effect: a major frame begins at `origin`. */
  #install(rows: readonly Row[], majorFrame: Nanoseconds, origin: Nanoseconds): void {
    this.#rows = rows;
    this.#majorFrame = majorFrame;
    if (rows.length === 0) {
      this.#owners = [...this.#units.keys()];
      this.#awake = 0;
      for (const known of this.#units.values()) {
        known.windows = 1;
        if (known.awake) this.#awake++;
      }
      const windows = this.#owners.map(() => DEFAULT_WINDOW);
      this.#frame = MajorFrame.of(windows, 0, origin);
    } else {
      const windows = rows.map((row) => row.runtime_ns);
      this.#frame = MajorFrame.of(windows, majorFrame, origin);
      this.#resolve();
    }
  }

  /** Finds the owner of each row anew. */
  #resolve(): void {
    this.#owners = this.#rows.map(() => null);
    this.#awake = 0;
    for (const known of this.#units.values()) known.windows = 0;
    for (const unit of this.#units.keys()) this.#claim(unit);
  }

  /** A unit takes the rows that name it: by UUID from anyone, by name those that nobody has. */
  #claim(unit: SchedulingUnit): void {
    const known = this.#units.get(unit)!;
    const { domain } = unit;
    for (const [i, row] of this.#rows.entries()) {
      const owner = this.#owners[i] ?? null;
      if (owner === unit || !unit.vcpus.some((vcpu) => vcpu.id === row.vcpu)) continue;
      if (row.domain !== domain.uuid && !(row.domain === domain.name && owner === null)) continue;
      if (owner !== null) {
        const other = this.#units.get(owner)!;
        if (--other.windows === 0 && other.awake) this.#awake--;
      }
      this.#owners[i] = unit;
      if (known.windows++ === 0 && known.awake) this.#awake++;
    }
  }

  #tickle(home: number): void {
    for (const pcpu of this.#host.pcpus) if (pcpu.id === home) this.#host.tickle(pcpu);
  }

  #tickleAll(): void {
    for (const pcpu of this.#host.pcpus) this.#host.tickle(pcpu);
  }

  // ---- state -----------------------------------------------------------------------------------

  save(): Saved {
    return {
      schedule: this.#rows.map((row) => ({ ...row })),
      major_frame_ns: this.#majorFrame,
      phase: this.#frame.phase(this.#host.now()),
      units: [...this.#units].map(([unit, { home }]) => [unit.id, home] as const),
    };
  }

  restore(state: Saved, unit: (id: number) => SchedulingUnit | undefined, now: Nanoseconds): void {
    const known = new Map(this.#units);
    this.#units.clear();
    for (const [id, home] of state.units) {
      const one = unit(id);
      const what = one === undefined ? undefined : known.get(one);
      if (one === undefined || what === undefined) continue;
      what.home = homeOf(one, home);
      this.#units.set(one, what);
      known.delete(one);
    }
    for (const [one, what] of known) this.#units.set(one, what);
    this.#install(state.schedule, state.major_frame_ns, now - state.phase);
  }

  dump(): string {
    const now = this.#host.now();
    this.#frame.locate(now);
    const head = `${this.#rows.length === 0 ? "default schedule" : "table"}, major frame ${this.#frame.length} ns, ${this.#frame.phase(now)} ns into it, window ${this.#frame.index}`;
    const lines = this.#owners.map((owner, i) => {
      const row = this.#rows[i];
      const who = owner === null ? "nobody" : `${owner} on pcpu ${this.#units.get(owner)!.home}`;
      return `${i}: ${row === undefined ? DEFAULT_WINDOW : row.runtime_ns} ns ${row === undefined ? "" : `'${row.domain}' vcpu ${row.vcpu}: `}${who}`;
    });
    return [head, ...lines].join("\n");
  }
}

/** The pCPU that a unit has, if it may run there; else where it last ran, if it may; else the lowest of its soft affinity. */
function homeOf(unit: SchedulingUnit, home: number): number {
  if (unit.hardAffinity.has(home)) return home;
  const last = unit.lastPcpu?.id;
  return last !== undefined && unit.hardAffinity.has(last) ? last : Math.min(...unit.softAffinity);
}
