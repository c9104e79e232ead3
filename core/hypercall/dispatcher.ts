/**
 * The hypercall dispatcher: one sealed table per domain type and guest ABI, found once per domain.
 *
 * Design: the generic calls are added first, then the `hypercalls` hook lets plugins add theirs. A preempted call is handed
 * to the arch (continueHypercall): the guest makes it again, with the arguments that the handler left.
 * Invariants: a number without a handler answers -ENOSYS; what a guest hands over never makes dispatch throw.
 */
import { ERRNO } from "../abi/index.ts";
import type { Domain } from "../domain/domain.ts";
import type { Vcpu } from "../domain/vcpu.ts";
import type { Machine } from "../machine/machine.ts";
import { CurrentCall } from "./call.ts";
import { addGenericCalls } from "./generic.ts";
import { HypercallTable, Result } from "./table.ts";

export class Hypercalls {
  readonly #machine: Machine;
  readonly #tables = new Map<string, HypercallTable>();
  readonly #byDomain = new WeakMap<Domain, HypercallTable>();
  readonly #call: CurrentCall;

  constructor(machine: Machine) {
    this.#machine = machine;
    this.#call = new CurrentCall(machine);
  }

  /** The table that serves a domain. */
  tableOf(domain: Domain): HypercallTable {
    let table = this.#byDomain.get(domain);
    if (table === undefined) {
      const key = `${domain.type}/${domain.abi.name}`;
      table = this.#tables.get(key) ?? this.#make(domain);
      this.#tables.set(key, table);
      this.#byDomain.set(domain, table);
    }
    return table;
  }

  #make(domain: Domain): HypercallTable {
    const table = new HypercallTable(domain.type, domain.abi);
    addGenericCalls(table, this.#machine, this.#call);
    this.#machine.hooks.hypercalls.call(table);
    table.seal();
    return table;
  }

  /**
   * Makes hypercall `nr` of the vCPU that runs. Returns a number for the guest, or Result.noReturn (registers were replaced), or
   * Result.continued (the arch has been told to make the call again): then nothing is left to do.
   */
  dispatch(vcpu: Vcpu, nr: number): number {
    const machine = this.#machine;
    const entry = this.tableOf(vcpu.domain).entry(nr);
    let result: number;
    if (entry === null) result = -ERRNO.ENOSYS;
    else {
      machine.charge(entry.cost);
      const call = this.#call;
      call.begin(vcpu);
      result = entry.handler(call);
      if (result === Result.continued) vcpu.domain.arch!.continueHypercall(vcpu, nr, call.args);
    }
    const { hypercall } = machine.hooks;
    if (hypercall.isUsed()) hypercall.call(vcpu, nr, result, machine.now);
    return result;
  }
}
