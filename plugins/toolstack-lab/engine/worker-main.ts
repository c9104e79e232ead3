/** A worker thread: loads the plugins once, then does the runs that it is sent, one after another. */
import { parentPort, workerData } from "node:worker_threads";
import { HookvisorError } from "hookvisor";
import { WrongAt } from "../experiment/places.ts";
import type { Failure, WorkerAnswer } from "./execute.ts";
import { loadPlugins, type PluginSources } from "./sources.ts";
import { doTask, type RunTask } from "./task.ts";

const port = parentPort!;
const plugins = loadPlugins(workerData as PluginSources);
// A failure to load is told by the first run that waits for it.
plugins.catch(() => {});

function failure(error: unknown): Failure {
  if (error instanceof WrongAt) return { kind: "wrong", path: error.path, message: error.message };
  if (error instanceof HookvisorError) return { kind: "user", path: [], message: error.message };
  return { kind: "defect", path: [], message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

port.on("message", async (task: RunTask) => {
  let answer: WorkerAnswer;
  try {
    answer = await doTask(await plugins, task);
  } catch (error) {
    answer = { failure: failure(error) };
  }
  port.postMessage(answer);
});
