/** Disks of guests from files of the host, whatever interface the guest sees them by; a library, no plugin. */
export * from "./disk.ts";
export * from "./overlay.ts";
export * from "./spec.ts";
export * from "./vdev.ts";
