/** A learning switch between the network devices of domains, and what travels on it; a library, no plugin. */
export * from "./bridge.ts";
export * from "./checksum.ts";
export * from "./frame.ts";
export * from "./network.ts";
export * from "./pcap.ts";
export * from "./segment.ts";
export * from "./station.ts";
export * from "./vif-spec.ts";
export * from "./wire.ts";
