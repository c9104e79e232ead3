/**
 * Traces on the command line: for every trace format that a plugin provides, `hookvisor run` has an option of its name, `--xentrace FILE`.
 *
 * Nothing here names a format: what is added later gets its option too, as formats tell when they are added.
 */
import { definePlugin } from "hookvisor";
import { TraceTap, traceFormat, traceHooks } from "../lib-trace/index.ts";
import { TraceFile } from "./file.ts";

const NAME = "toolstack-trace";

export default definePlugin({
  name: NAME,
  api: "^1.0.0",
  requires: ["toolstack-cli"],
  description: "run's options for traces, one for each format",
  apply(hypervisor) {
    const toolstack = hypervisor.hooksOf("toolstack");
    const traces = traceHooks(hypervisor);
    const add = (name: string, plugin: string): void => {
      toolstack?.runOption.for(name).tap(plugin, () => ({
        summary: traceFormat(traces, name)!.summary,
        value: "file",
        repeated: false,
        begin([path], run) {
          const { hooks } = run.hypervisor;
          const tap = new TraceTap();
          let file: TraceFile | null = null;
          tap.tap(plugin, hooks);
          hooks.boot.tap(plugin, () => {
            const { machine } = run.hypervisor;
            const open = new TraceFile(path!);
            file = open;
            tap.now = () => machine.now;
            const pcpus = machine.pcpus.length;
            tap.writer = traceFormat(traces, name)!.open({ pcpus, sink: (bytes) => open.write(bytes) });
          });
          hooks.shutdown.tap(plugin, () => {
            if (file === null) return;
            const { machine } = run.hypervisor;
            tap.writer?.finish(Math.max(machine.now, ...machine.pcpus.map((pcpu) => pcpu.time)));
            tap.writer = null;
            file.close();
            file = null;
          });
        },
      }));
    };
    for (const { name, plugin } of traces.formats()) add(name, plugin);
    traces.formatAdded.tap(NAME, add);
  },
});
