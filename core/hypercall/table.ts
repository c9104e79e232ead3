/**
 * Hypercall tables: one per guest ABI, filled once through the `hypercalls` hook, then sealed.
 *
 * A handler gets a reused HypercallCall: arguments as lo/hi halves, copying to and from guest memory with the guest's
 * layout, cost and preemption. It returns a number: 0 or positive results, negative errnos, or one of Result.
 * Invariants: a handler never throws for what a guest handed over; a number without a handler answers -ENOSYS.
 */
import { ERRNO } from "../abi/index.ts";
import type { GuestAbi } from "../architecture/guest-abi.ts";
import type { Domain } from "../domain/domain.ts";
import type { Vcpu } from "../domain/vcpu.ts";
import type { Nanoseconds } from "../machine/timers.ts";

/** Results that are no number for the guest. */
export const Result = Object.freeze({
  /** The registers were replaced by the handler (iret): write nothing. Ends a multicall. */
  noReturn: -0x2000_0000_0000,
  /** The call was preempted and is to be made again: continueWith was called. */
  continued: -0x2000_0000_0001,
});

/** One hypercall under way. Reused: keep no reference to it. */
export interface HypercallCall {
  readonly vcpu: Vcpu;
  readonly domain: Domain;
  readonly abi: GuestAbi;
  readonly now: Nanoseconds;
  /** Argument halves, unsigned. */
  lo(index: number): number;
  hi(index: number): number;
  /** An argument as an exact number up to 2^53, else Infinity (a value no count or frame number can have). */
  number(index: number): number;
  /** An `int` argument, signed. */
  int(index: number): number;
  /** Bytes [0, length) at a guest pointer into a scratch buffer that lasts until the next read; null: -EFAULT. */
  read(lo: number, hi: number, length: number): DataView | null;
  /** Like read, for the pointer in an argument, at `offset` bytes (array elements). */
  readArg(index: number, length: number, offset?: number): DataView | null;
  /** Writes the first `length` bytes of a buffer; false: -EFAULT. */
  write(lo: number, hi: number, from: Uint8Array | DataView, length: number): boolean;
  writeArg(index: number, from: Uint8Array | DataView, length: number, offset?: number): boolean;
  /** Adds to what the call costs, in instructions. */
  charge(instructions: number): void;
  /** Has the call used up its time, so that a batch should be continued later? */
  preempted(): boolean;
  /** Prepares the continuation: argument `index` becomes a value; then return `continued()`. */
  setArgument(index: number, lo: number, hi?: number): void;
  continued(): number;
}

/** Answers one hypercall. */
export type HypercallHandler = (call: HypercallCall) => number;

/** One line of a table. */
export interface HypercallEntry {
  readonly number: number;
  readonly name: string;
  readonly handler: HypercallHandler;
  /** Instructions charged for each call, before what the handler charges. */
  readonly cost: number;
}

/** One operation of a hypercall that takes a command. */
export interface Operation {
  readonly command: number;
  readonly name: string;
  readonly handler: HypercallHandler;
}

/**
 * The operations of one hypercall that takes a command (memory_op, vcpu_op, ...). Core fills in its own; an arch adds
 * its through `table.group(number).add(...)`. A command without a handler answers -ENOSYS.
 */
export class OperationGroup {
  readonly name: string;
  readonly #byCommand = new Map<number, Operation>();
  #sealed = false;

  constructor(name: string) {
    this.name = name;
  }

  /** Adds an operation. A command twice, or after sealing, is an error. */
  add(command: number, name: string, handler: HypercallHandler): void {
    if (this.#sealed) throw new Error(`${this.name} ${name}: the table is sealed`);
    const there = this.#byCommand.get(command);
    if (there) throw new Error(`${this.name} ${command} is ${there.name} already, not ${name}`);
    this.#byCommand.set(command, { command, name, handler });
  }

  seal(): void {
    this.#sealed = true;
  }

  operation(command: number): Operation | null {
    return this.#byCommand.get(command) ?? null;
  }

  list(): readonly Operation[] {
    return [...this.#byCommand.values()].sort((a, b) => a.command - b.command);
  }
}

/** The most hypercalls (Xen: NR_hypercalls). */
export const MAX_HYPERCALLS = 64;

/** All hypercalls of one guest ABI. */
export class HypercallTable {
  /** The domain type (key of the arch) and ABI that it serves. */
  readonly type: string;
  readonly abi: GuestAbi;
  readonly #entries: (HypercallEntry | null)[] = new Array(MAX_HYPERCALLS).fill(null);
  readonly #groups = new Map<number, OperationGroup>();
  #sealed = false;

  constructor(type: string, abi: GuestAbi) {
    this.type = type;
    this.abi = abi;
  }

  /** Adds a hypercall; `cost` defaults to 300 instructions. A number twice, or after sealing, is an error. */
  add(number: number, name: string, handler: HypercallHandler, cost = 300): void {
    if (this.#sealed) throw new Error(`hypercall ${name}: the table of ${this.abi.name} is sealed`);
    if (!Number.isInteger(number) || number < 0 || number >= MAX_HYPERCALLS)
      throw new RangeError(`hypercall ${name}: number ${number} is not in 0..${MAX_HYPERCALLS - 1}`);
    const there = this.#entries[number];
    if (there) throw new Error(`hypercall ${number} of ${this.abi.name} is ${there.name} already, not ${name}`);
    this.#entries[number] = { number, name, handler, cost };
  }

  /** Adds a hypercall that takes a command: `command` finds it among the arguments. Returns the group to add operations to. */
  addGroup(number: number, name: string, command: (call: HypercallCall) => number, cost = 300): OperationGroup {
    const group = new OperationGroup(name);
    const handler = (call: HypercallCall): number => {
      const operation = group.operation(command(call));
      return operation === null ? -ERRNO.ENOSYS : operation.handler(call);
    };
    this.add(number, name, handler, cost);
    this.#groups.set(number, group);
    return group;
  }

  /** The group of a hypercall added by addGroup. */
  group(number: number): OperationGroup {
    const group = this.#groups.get(number);
    if (group === undefined) throw new Error(`hypercall ${number} of ${this.abi.name} has no operations`);
    return group;
  }

  /** No more additions. */
  seal(): void {
    this.#sealed = true;
    for (const group of this.#groups.values()) group.seal();
  }

  /** The entry, or null: -ENOSYS. */
  entry(number: number): HypercallEntry | null {
    return this.#entries[number] ?? null;
  }

  /** The hypercalls there are, by number. */
  list(): readonly HypercallEntry[] {
    return this.#entries.filter((e) => e !== null);
  }
}
