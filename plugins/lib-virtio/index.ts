/** Virtio devices (OASIS Virtual I/O Device 1.2): the MMIO transport and split virtqueues; a library, no plugin. */
export * from "./abi.ts";
export * from "./memory.ts";
export * from "./mmio.ts";
export * from "./place.ts";
export * from "./queue.ts";
