/**
 * Does runs, on this thread or on several: each takes whole runs, results come back in the order of the tasks.
 *
 * This thread begins; if it is not done after a while, workers help: to start one takes longer than a short experiment does.
 * Invariants: what a run gives does not depend on where it ran, nor on how many run beside it; the first failure (by time) ends all.
 */
import { Worker } from "node:worker_threads";
import { ConfigError } from "hookvisor";
import { MODULE_ENDING } from "../../../core/node/resolve.ts";
import { type Path, WrongAt } from "../experiment/places.ts";
import { Aborted } from "./run.ts";
import { loadPlugins, type PluginSources } from "./sources.ts";
import { doTask, type RunRecord, type RunTask, type TaskOutcome } from "./task.ts";

/** Host milliseconds after which workers help. */
const PATIENCE = 400;

/** Why a run failed, as it crosses threads. */
export interface Failure {
  readonly kind: "wrong" | "user" | "defect";
  readonly path: Path;
  readonly message: string;
}

/** What a worker answers. */
export type WorkerAnswer = TaskOutcome | { readonly failure: Failure };

export interface ExecuteOptions {
  readonly sources: PluginSources;
  /** Threads at most. */
  readonly jobs: number;
  /** Aborted: the runs under way are given up, and `execute` throws Aborted. */
  readonly signal?: AbortSignal;
  /** Host milliseconds after which workers help. */
  readonly patience?: number;
  /** A run is finished; by its index among the tasks. */
  done(index: number, outcome: TaskOutcome): void;
}

function errorOf({ kind, path, message }: Failure): Error {
  if (kind === "wrong") return new WrongAt(path, message);
  return kind === "user" ? new ConfigError(message) : new Error(message);
}

/** Does the tasks. Throws what the first failing one threw (WrongAt, ConfigError; a defect as Error). */
export async function execute(tasks: readonly RunTask[], options: ExecuteOptions): Promise<readonly RunRecord[]> {
  const execution = new Execution(tasks, options);
  return execution.run();
}

class Execution {
  readonly #tasks: readonly RunTask[];
  readonly #options: ExecuteOptions;
  readonly #records: RunRecord[];
  readonly #workers: Worker[] = [];
  #next = 0;
  /** Nobody waits for the runs under way. */
  #over = false;
  #left: number;

  constructor(tasks: readonly RunTask[], options: ExecuteOptions) {
    this.#tasks = tasks;
    this.#options = options;
    this.#records = new Array(tasks.length);
    this.#left = tasks.length;
  }

  async run(): Promise<readonly RunRecord[]> {
    const { signal, jobs, patience = PATIENCE } = this.#options;
    if (this.#left === 0) return [];
    const all = Promise.withResolvers<void>();
    const fail = (error: unknown): void => all.reject(error);
    const abort = (): void => fail(new Aborted());
    const finished = (): void => {
      if (this.#left === 0) all.resolve();
    };
    signal?.addEventListener("abort", abort);
    if (signal?.aborted === true) abort();
    const help = setTimeout(() => {
      const helpers = Math.min(jobs - 1, this.#tasks.length - this.#next);
      for (let i = 0; i < helpers; i++) this.#onWorker().then(finished, fail);
    }, patience);
    const here = this.#here();
    here.then(finished, fail);
    try {
      await all.promise;
    } finally {
      clearTimeout(help);
      signal?.removeEventListener("abort", abort);
      this.#next = this.#tasks.length;
      this.#over = true;
      await Promise.all(this.#workers.map((worker) => worker.terminate()));
      await here.catch(() => {});
    }
    return this.#records;
  }

  /** Takes tasks until there are none. */
  async #each(work: (task: RunTask) => Promise<TaskOutcome>): Promise<void> {
    for (let index = this.#next++; index < this.#tasks.length; index = this.#next++) {
      const outcome = await work(this.#tasks[index]!);
      if (this.#over) return;
      this.#records[index] = outcome.record;
      this.#left--;
      this.#options.done(index, outcome);
    }
  }

  async #here(): Promise<void> {
    const plugins = await loadPlugins(this.#options.sources);
    await this.#each((task) => doTask(plugins, task, () => this.#over));
  }

  async #onWorker(): Promise<void> {
    const worker = new Worker(new URL(`./worker${MODULE_ENDING}`, import.meta.url), {
      workerData: this.#options.sources,
      execArgv: [],
    });
    this.#workers.push(worker);
    await this.#each(async (task) => {
      const answer = await ask(worker, task);
      if ("failure" in answer) throw errorOf(answer.failure);
      return answer;
    });
  }
}

function ask(worker: Worker, task: RunTask): Promise<WorkerAnswer> {
  return new Promise((resolve, reject) => {
    const settle = (how: () => void): void => {
      worker.off("message", onMessage);
      worker.off("error", onError);
      worker.off("exit", onExit);
      how();
    };
    const onMessage = (answer: WorkerAnswer): void => settle(() => resolve(answer));
    const onError = (error: unknown): void => settle(() => reject(error));
    const onExit = (code: number): void =>
      settle(() => reject(new Error(`a worker thread ended with code ${code} in the middle of a run`)));
    worker.on("message", onMessage).on("error", onError).on("exit", onExit);
    worker.postMessage(task);
  });
}
