/**
 * Does runs, on this thread or on several: each worker takes whole runs, results come back in the order of the tasks.
 *
 * Invariants: what a run gives does not depend on where it ran, nor on how many run beside it; the first failure (by time) ends all.
 */
import { Worker } from "node:worker_threads";
import { ConfigError } from "hookvisor";
import { MODULE_ENDING } from "../../../core/node/resolve.ts";
import { type Path, WrongAt } from "../experiment/places.ts";
import { loadPlugins, type PluginSources } from "./sources.ts";
import { doTask, type RunRecord, type RunTask } from "./task.ts";

/** Why a run failed, as it crosses threads. */
export interface Failure {
  readonly kind: "wrong" | "user" | "defect";
  readonly path: Path;
  readonly message: string;
}

/** What a worker answers. */
export type WorkerAnswer = { readonly record: RunRecord } | { readonly failure: Failure };

export interface ExecuteOptions {
  readonly sources: PluginSources;
  /** Threads at most. */
  readonly jobs: number;
  /** A run is finished; by its index among the tasks. */
  done(index: number, record: RunRecord): void;
}

function errorOf({ kind, path, message }: Failure): Error {
  if (kind === "wrong") return new WrongAt(path, message);
  return kind === "user" ? new ConfigError(message) : new Error(message);
}

/** Does the tasks. Throws what the first failing one threw (WrongAt, ConfigError; a defect as Error). */
export async function execute(tasks: readonly RunTask[], options: ExecuteOptions): Promise<readonly RunRecord[]> {
  const threads = Math.min(options.jobs, tasks.length);
  if (threads > 1) return onWorkers(tasks, options, threads);
  const plugins = await loadPlugins(options.sources);
  const records: RunRecord[] = [];
  for (const [i, task] of tasks.entries()) {
    const record = await doTask(plugins, task);
    records.push(record);
    options.done(i, record);
  }
  return records;
}

async function onWorkers(
  tasks: readonly RunTask[],
  { sources, done }: ExecuteOptions,
  threads: number,
): Promise<readonly RunRecord[]> {
  const records: RunRecord[] = new Array(tasks.length);
  const workers: Worker[] = [];
  let next = 0;
  try {
    await Promise.all(
      Array.from({ length: threads }, async () => {
        const worker = new Worker(new URL(`./worker${MODULE_ENDING}`, import.meta.url), {
          workerData: sources,
          execArgv: [],
        });
        workers.push(worker);
        for (let index = next++; index < tasks.length; index = next++) {
          const answer = await ask(worker, tasks[index]!);
          if ("failure" in answer) throw errorOf(answer.failure);
          records[index] = answer.record;
          done(index, answer.record);
        }
      }),
    );
  } finally {
    next = tasks.length;
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  return records;
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
