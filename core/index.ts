/**
 * The only module of core that plugins import, as "hookvisor". The Xen ABI is the namespace `xen`.
 */
export * as xen from "./abi/index.ts";
export * from "./abi/struct.ts";
export * from "./architecture/arch-backend.ts";
export type { GuestAbi } from "./architecture/guest-abi.ts";
export { Bus } from "./device/bus.ts";
export * from "./device/device-type.ts";
export { BackRing, FrontRing, RingError } from "./device/ring.ts";
export { Domain, type DomainIdentity, type ShutdownAction, ShutdownReason } from "./domain/domain.ts";
export { PauseFlag, RunState, Vcpu } from "./domain/vcpu.ts";
export * from "./errors.ts";
export { EventError } from "./event/event-error.ts";
export { GrantError } from "./grant/grant-error.ts";
export { createHooks, type Hooks, hookTable, type PluginFault, providers, sealHooks } from "./hooks.ts";
export * from "./hypercall/table.ts";
export {
  type BootConfig,
  type DomainConfig,
  Hypervisor,
  type HypervisorSetup,
  type PluginHooks,
} from "./hypervisor.ts";
export * from "./machine/frames.ts";
export * from "./machine/governor.ts";
export { defaultMachine, Machine, type MachineConfig, type SchedulingCosts } from "./machine/machine.ts";
export { Pcpu } from "./machine/pcpu.ts";
export { type Nanoseconds, type Timer, TimerQueue } from "./machine/timers.ts";
export * from "./plugin.ts";
export type { RunEnd, RunOptions } from "./runner.ts";
export type { CpuPool } from "./scheduling/cpupool.ts";
export { type PoolConfig, PoolError, Pools, poolOf } from "./scheduling/pools.ts";
export type { Granularity } from "./scheduling/resource.ts";
export * from "./scheduling/scheduler.ts";
export { runStateTime } from "./scheduling/unit.ts";
