/**
 * The network on the command line: `hookvisor run --vif SPEC` gives each domain a network device, `--pcap FILE` captures what the bridges carry.
 */
import { definePlugin } from "hookvisor";
import type { NetworkHooks } from "../lib-switch/index.ts";
import { Capture } from "./capture.ts";

const NAME = "toolstack-network";

export default definePlugin({
  name: NAME,
  api: "^1.0.0",
  requires: ["toolstack-cli", "network-builtin"],
  description: "run's options --vif and --pcap",
  apply(hypervisor) {
    const toolstack = hypervisor.hooksOf("toolstack");
    const network: NetworkHooks | undefined = hypervisor.hooksOf("network");
    toolstack?.runOption.for("vif").tap(NAME, () => ({
      summary: "network device in xl's syntax, such as 'bridge=xenbr0' or '' for all defaults; may be repeated",
      value: "spec",
      repeated: true,
      settings: (values) => ({ vif: values }),
    }));
    toolstack?.runOption.for("pcap").tap(NAME, () => ({
      summary: "write what the bridges carry to a capture file that tcpdump reads",
      value: "file",
      repeated: false,
      begin([path], run) {
        let capture: Capture | null = null;
        run.hypervisor.hooks.boot.tap(NAME, () => {
          capture = new Capture(path!);
        });
        network?.frame.tap(NAME, (_bridge, _port, frame, now) =>
          capture?.frame(frame, now, run.hypervisor.machine.config.wallclockAtZero),
        );
        run.hypervisor.hooks.shutdown.tap(NAME, () => {
          capture?.close();
          capture = null;
        });
      },
    }));
  },
});
