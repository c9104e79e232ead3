/**
 * The conformance kit for architectures: every port, built in or a third party's, runs this suite with a few images of its own.
 *
 * It boots the real hypervisor with the port's plugin and checks what must hold whatever the instructions are: budgets are exact and the way
 * that a run is cut into slices changes nothing, an upcall comes exactly when it is pending and unmasked, copies reach what is mapped and
 * nothing else, bad pointers are answered by errno, code that is garbage harms its own domain alone, and a domain's end gives everything back.
 */
import fc from "fast-check";
import * as xen from "../../core/abi/index.ts";
import type { ArchBackend } from "../../core/architecture/arch-backend.ts";
import { createExit, ExitCode } from "../../core/architecture/arch-backend.ts";
import type { Domain } from "../../core/domain/domain.ts";
import { ConfigError, HookvisorError, ImageError } from "../../core/errors.ts";
import type { PluginFault } from "../../core/hooks.ts";
import { type DomainConfig, Hypervisor } from "../../core/hypervisor.ts";
import { FRAME_SIZE } from "../../core/machine/frames.ts";
import { definePlugin, type Plugin } from "../../core/plugin.ts";
import { FifoScheduler } from "../../core/scheduling/fifo.ts";

/** What the suite needs of a test framework. */
export interface ArchSuiteFramework {
  describe(name: string, body: () => void): void;
  test(name: string, body: () => void | Promise<void>): void;
  /** Throws when the condition is false. */
  check(condition: boolean, message: string): void;
}

/** A guest virtual address as halves. */
export interface GuestAddress {
  readonly lo: number;
  readonly hi: number;
}

/** One hypercall of a test's guest. */
export interface TestCall {
  readonly nr: number;
  /** Numbers below 2^53. */
  readonly args: readonly number[];
}

/** A port under test, with images for it. What a port has no use for (guests without code, memory or hypercalls) it leaves out, and says so by that. */
export interface ArchUnderTest {
  readonly name: string;
  /** The key under which the plugin provides it. */
  readonly type: string;
  makePlugin(): Plugin;
  /** Computes for ever in registers and memory; makes no hypercall and does not depend on time. */
  readonly compute: Uint8Array;
  /** Bytes [from, to) of `compute` that are its code. */
  readonly code?: readonly [from: number, to: number];
  /** Registers an upcall handler, unmasks events and computes for ever. The handler counts, clears what is pending and goes back with events unmasked. */
  readonly upcalls?: { readonly image: Uint8Array; count(domain: Domain): number };
  /** Writable memory of a domain of `compute`, at least two guest pages, with nothing mapped behind it. */
  edge?(domain: Domain): GuestAddress & { readonly length: number };
  /** Makes these calls in turn and powers off; `results` reads their answers afterwards, signed. */
  hypercalls?(calls: readonly TestCall[]): { readonly image: Uint8Array; results(domain: Domain): readonly number[] };
  /** A pointer that is nowhere mapped. */
  readonly badPointer?: number;
  /** Memory of a domain. Default: 1 MiB. */
  readonly memoryMiB?: number;
  /** Memory of the machine. Default: 16 MiB. */
  readonly machineMiB?: number;
  /** Instructions of the runs that are compared. Default: 20000. */
  readonly instructions?: number;
  /** Runs of random tests. Default: 15; they end after 3 s each in any case. */
  readonly runs?: number;
}

/** A booted machine with the port. */
interface Machine {
  readonly hypervisor: Hypervisor;
  readonly faults: readonly PluginFault[];
  create(name: string, kernel: Uint8Array): Promise<Domain>;
}

const MS = 1e6;

async function boot(under: ArchUnderTest): Promise<Machine> {
  const faults: PluginFault[] = [];
  const kit = definePlugin({
    name: "conformance",
    api: "^1.0.0",
    apply({ hooks }) {
      hooks.scheduler.for("conformance").tap("conformance", (host) => new FifoScheduler(host));
      hooks.pluginFault.tap("conformance", (fault) => {
        faults.push(fault);
        return undefined;
      });
    },
  });
  const services = {
    openFile: (path: string) => Promise.reject(new ConfigError(`File ${path}: there are no files here.`)),
    terminal: () => ({ write: () => {}, read: () => new Uint8Array(0), onInput: () => {} }),
  };
  const plugins = [under.makePlugin(), kit].map((plugin) => ({ plugin, source: plugin.name }));
  const hypervisor = new Hypervisor({ plugins, services });
  await hypervisor.boot({ memoryMiB: under.machineMiB ?? 16, cpuMhz: 100, scheduler: "conformance" });
  const config = (name: string, kernel: Uint8Array): DomainConfig => ({
    name,
    type: under.type,
    kernel,
    kernelName: name,
    ramdisk: null,
    extra: "",
    memoryMiB: under.memoryMiB ?? 1,
    vcpus: 1,
    devices: [],
    schedulerParams: {},
  });
  return { hypervisor, faults, create: (name, kernel) => hypervisor.createDomain(config(name, kernel)) };
}

/** Registers and memory of a domain, as text. */
function state(hypervisor: Hypervisor, domain: Domain): string {
  const { frames } = hypervisor.machine;
  let hash = 0x811c9dc5;
  for (let mfn = 0; mfn < frames.count; mfn++)
    if (frames.owner[mfn] === domain.id)
      for (let at = mfn * FRAME_SIZE; at < (mfn + 1) * FRAME_SIZE; at += 4)
        hash = Math.imul(hash ^ frames.view.getUint32(at, true), 0x01000193);
  return `${domain.arch!.describe(domain.vcpus[0]!)} memory ${(hash >>> 0).toString(16)}`;
}

function plus(address: GuestAddress, offset: number): GuestAddress {
  const lo = address.lo + offset;
  return { lo: lo >>> 0, hi: (address.hi + Math.floor(lo / 0x1_0000_0000)) >>> 0 };
}

/** Defines the suite. */
export function archSuite(framework: ArchSuiteFramework, under: ArchUnderTest): void {
  const { describe, test, check } = framework;
  const limits = { numRuns: under.runs ?? 15, interruptAfterTimeLimit: 3000 };
  const instructions = under.instructions ?? 20_000;
  const halves = fc.record({
    lo: fc.integer({ min: 0, max: 0xffffffff }),
    hi: fc.oneof(fc.constant(0), fc.constant(0xffffffff), fc.integer({ min: 0, max: 0xffffffff })),
  });

  const { upcalls, code, badPointer } = under;
  const left = (["code", "upcalls", "edge", "hypercalls"] as const).filter((part) => under[part] === undefined);
  const without = left.length === 0 ? "" : ` (its guests have no ${left.join(", ")})`;

  describe(`conformance: arch ${under.name}${without}`, () => {
    test("says what its guests are, and refuses what is no image in a sentence", async () => {
      const { create, hypervisor } = await boot(under);
      const domain = await create("compute", under.compute);
      const arch = domain.arch!;
      const abi = arch.identify(under.compute, "compute");
      check(abi.pageShift >= 12 && abi.pageShift < 32, `pages of 2^${abi.pageShift} bytes`);
      check(abi.wordBytes === 4 || abi.wordBytes === 8, `words of ${abi.wordBytes} bytes`);
      const refuses = (image: Uint8Array): boolean => {
        try {
          arch.identify(image, "broken");
          return false;
        } catch (error) {
          check(error instanceof ImageError, `identify threw ${String(error)}, which is no ImageError`);
          return true;
        }
      };
      check(refuses(new Uint8Array(0)), "an empty image is taken");
      const bytes = fc.oneof(
        fc.uint8Array({ maxLength: 600 }),
        fc.nat(under.compute.length).map((length) => under.compute.subarray(0, length)),
      );
      fc.assert(
        fc.property(bytes, (image) => void refuses(image)),
        { ...limits, numRuns: 200 },
      );
      const { free } = hypervisor.machine.frames;
      for (const length of [0, 1, 7, 64, under.compute.length >> 1])
        await create("cut", under.compute.slice(0, length)).then(
          (made) => hypervisor.destroyDomain(made),
          (error: unknown) => check(error instanceof HookvisorError, `building from a part threw ${String(error)}`),
        );
      check(hypervisor.machine.frames.free === free, "building from a part left frames behind");
    });

    /** A domain of `compute` that was run for `instructions` in pieces. */
    const computed = async (pieces: Iterable<number>): Promise<string> => {
      const { hypervisor, create } = await boot(under);
      const domain = await create("compute", under.compute);
      // Core runs a vCPU only while it is on a pCPU.
      domain.vcpus[0]!.runningOn = hypervisor.machine.pcpus[0]!;
      const exit = createExit();
      let left = instructions;
      const iterator = pieces[Symbol.iterator]();
      while (left > 0) {
        const budget = Math.min(left, Math.max(1, iterator.next().value ?? left));
        exit.code = ExitCode.budget;
        const retired = domain.arch!.run(domain.vcpus[0]!, budget, exit);
        check(exit.code === ExitCode.budget, `compute left the guest with code ${exit.code} (${exit.reason})`);
        check(retired === budget, `a run of ${budget} instructions retired ${retired}`);
        left -= budget;
      }
      return state(hypervisor, domain);
    };

    test("budgets are exact: random slices are the same as one run", async () => {
      const whole = await computed([]);
      check((await computed([1])) === whole, "two runs differ: one instruction first");
      await fc.assert(
        fc.asyncProperty(fc.infiniteStream(fc.oneof(fc.integer({ min: 1, max: 9 }), fc.nat(3000))), async (slices) => {
          check((await computed(slices)) === whole, "slices change what a guest computes");
        }),
        limits,
      );
    });

    test("a vCPU's context is its own: domains that take turns compute what each computes alone", async () => {
      const lengths = [instructions, Math.floor(instructions / 2) + 7];
      /** Which domain runs next, and for how long at most. */
      const together = async (turns: Iterable<readonly [who: number, length: number]>): Promise<string> => {
        const { hypervisor, create } = await boot(under);
        const domains = [await create("one", under.compute), await create("two", under.compute)];
        for (const domain of domains) domain.vcpus[0]!.runningOn = hypervisor.machine.pcpus[0]!;
        const rest = [...lengths];
        const exit = createExit();
        for (const [who, length] of turns) {
          if (rest[0] === 0 && rest[1] === 0) break;
          const i = rest[who]! > 0 ? who : 1 - who;
          exit.code = ExitCode.budget;
          rest[i]! -= domains[i]!.arch!.run(domains[i]!.vcpus[0]!, Math.min(rest[i]!, length), exit);
          check(exit.code === ExitCode.budget, `compute left the guest with code ${exit.code} (${exit.reason})`);
        }
        return domains.map((domain) => state(hypervisor, domain)).join("\n");
      };
      const forEver = function* (turn: readonly [number, number]): Iterable<readonly [number, number]> {
        for (;;) yield turn;
      };
      const alone = await together(forEver([0, Infinity]));
      check((await together(forEver([1, Infinity]))) === alone, "it matters which of two domains runs first");
      const turns = fc.infiniteStream(
        fc.tuple(fc.nat(1), fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 3000 }))),
      );
      await fc.assert(
        fc.asyncProperty(turns, async (list) => {
          check((await together(list)) === alone, "a domain computes something else when another runs in between");
        }),
        limits,
      );
    });

    const upcallTest = async (upcalls: NonNullable<ArchUnderTest["upcalls"]>): Promise<void> => {
      const { hypervisor, create } = await boot(under);
      const domain = await create("upcalls", upcalls.image);
      const vcpu = domain.vcpus[0]!;
      const shared = domain.shared!;
      const run = async (): Promise<number> => {
        const end = await hypervisor.run({ until: hypervisor.machine.now + 2 * MS });
        check(domain.shutdownReason === null, `the guest ended (${domain.crashMessage})`);
        check(end === "limit", `the run ended by ${end}`);
        return upcalls.count(domain);
      };
      hypervisor.unpause(domain);
      check((await run()) === 0, "an upcall without an event");
      for (let i = 1; i <= 3; i++) {
        shared.setUpcallPending(vcpu);
        check(domain.arch!.eventsDeliverable(vcpu), "a pending, unmasked event is not deliverable");
        check((await run()) === i, `${upcalls.count(domain)} upcalls for ${i} events`);
        check(!domain.arch!.eventsDeliverable(vcpu), "an event is deliverable after it was delivered");
      }
      shared.setUpcallMask(vcpu, true);
      shared.setUpcallPending(vcpu);
      check(!domain.arch!.eventsDeliverable(vcpu), "a masked event is deliverable");
      check((await run()) === 3, "an upcall while events are masked");
      shared.setUpcallMask(vcpu, false);
      check((await run()) === 4, "no upcall after unmasking");
    };
    if (upcalls !== undefined) test("an upcall comes when it is pending and unmasked, once", () => upcallTest(upcalls));

    const copyTest = async (edgeOf: NonNullable<ArchUnderTest["edge"]>): Promise<void> => {
      const { create } = await boot(under);
      const domain = await create("compute", under.compute);
      const arch = domain.arch!;
      const vcpu = domain.vcpus[0]!;
      const edge = edgeOf(domain);
      const pageSize = 2 ** domain.abi.pageShift;
      check(edge.length >= 2 * pageSize, "the edge is to have two pages");
      const ranges = fc.record({
        offset: fc.nat(edge.length - 1),
        length: fc.oneof(fc.nat(40), fc.nat(3 * pageSize)),
        seed: fc.nat(255),
      });
      fc.assert(
        fc.property(ranges, ({ offset, length, seed }) => {
          const at = plus(edge, offset);
          const out = Uint8Array.from({ length }, (_, i) => (seed + i * 7) & 0xff);
          const fits = offset + length <= edge.length;
          check(arch.copyToGuest(vcpu, at.lo, at.hi, out, length) === fits, `a copy of ${length} at +${offset}`);
          const into = new Uint8Array(length);
          check(
            arch.copyFromGuest(vcpu, at.lo, at.hi, into, length) === fits,
            `a copy back of ${length} at +${offset}`,
          );
          if (fits) check(sameBytes(out, into), `${length} bytes at +${offset} came back changed`);
        }),
        { ...limits, numRuns: 200 },
      );
      check(arch.copyFromGuest(vcpu, edge.lo, edge.hi, new Uint8Array(0), 0), "a copy of nothing fails");
      const end = plus(edge, edge.length);
      check(!arch.copyFromGuest(vcpu, end.lo, end.hi, new Uint8Array(1), 1), "a byte behind the edge can be read");
      check(!arch.copyToGuest(vcpu, end.lo, end.hi, new Uint8Array(1), 1), "a byte behind the edge can be written");
      fc.assert(
        fc.property(halves, fc.nat(100), ({ lo, hi }, length) => {
          arch.copyFromGuest(vcpu, lo, hi, new Uint8Array(length), length);
        }),
        { ...limits, numRuns: 200 },
      );
    };
    if (under.edge !== undefined)
      test("copies reach what is mapped, and nothing behind it", () => copyTest((domain) => under.edge!(domain)));

    test("no number and no address of one domain reaches another's memory", async () => {
      const { hypervisor, create } = await boot(under);
      const [mine, other] = [await create("mine", under.compute), await create("other", under.compute)];
      const before = state(hypervisor, other);
      const arch: ArchBackend = mine.arch!;
      const vcpu = mine.vcpus[0]!;
      const { frames } = hypervisor.machine;
      const junk = new Uint8Array(64).fill(0xa5);
      fc.assert(
        fc.property(halves, fc.integer({ min: 0, max: 64 }), ({ lo, hi }, length) => {
          arch.copyToGuest(vcpu, lo, hi, junk, length);
          arch.initialiseVcpu(vcpu, vcpu, lo, hi);
          check(arch.mapGrant(vcpu, lo | 1, hi, 0, xen.GNTMAP.host_map) < 0, "a grant was mapped off a page boundary");
          check(arch.unmapGrant(vcpu, lo, hi, 0, xen.GNTMAP.host_map, 0, 0) < 0, "what no grant mapped was unmapped");
        }),
        { ...limits, numRuns: 200 },
      );
      const numbers = fc.oneof(fc.nat(frames.count), fc.integer({ min: 0, max: 0xffffffff }), fc.constant(Infinity));
      fc.assert(
        fc.property(numbers, (gfn) => {
          const mfn = arch.gfnToMfn(mine, gfn);
          check(mfn === -1 || frames.owns(mine.id, mfn), `gfn ${gfn} is frame ${mfn}, which is not the domain's`);
        }),
        { ...limits, numRuns: 500 },
      );
      check(state(hypervisor, other) === before, "another domain's memory has changed");
    });

    const pointerTest = async (bad: number): Promise<void> => {
      const { __HYPERVISOR: H, ERRNO } = xen;
      const calls: readonly TestCall[] = [
        { nr: H.console_io, args: [xen.CONSOLEIO.write, 16, bad] },
        { nr: H.event_channel_op, args: [xen.EVTCHNOP.send, bad] },
        { nr: H.event_channel_op, args: [xen.EVTCHNOP.alloc_unbound, bad] },
        { nr: H.sched_op, args: [xen.SCHEDOP.poll, bad] },
        { nr: H.sched_op, args: [xen.SCHEDOP.shutdown, bad] },
        { nr: H.xen_version, args: [xen.XENVER.extraversion, bad] },
        { nr: H.xen_version, args: [xen.XENVER.get_features, bad] },
        { nr: H.multicall, args: [bad, 1] },
        { nr: H.memory_op, args: [xen.XENMEM.current_reservation, bad] },
        { nr: H.vcpu_op, args: [xen.VCPUOP.get_runstate_info, 0, bad] },
        { nr: H.vcpu_op, args: [xen.VCPUOP.register_vcpu_info, 0, bad] },
        { nr: H.grant_table_op, args: [xen.GNTTABOP.map_grant_ref, bad, 1] },
        { nr: H.grant_table_op, args: [xen.GNTTABOP.query_size, bad, 1] },
        { nr: 63, args: [bad] },
      ];
      const { hypervisor, create, faults } = await boot(under);
      const guest = under.hypercalls!(calls);
      const domain = await create("pointers", guest.image);
      hypervisor.unpause(domain);
      await hypervisor.run({ until: 10_000 * MS, done: () => domain.shutdownReason !== null });
      check(domain.shutdownReason === xen.SHUTDOWN.poweroff, `the guest did not end well: ${domain.crashMessage}`);
      check(faults.length === 0, `the port failed: ${faults[0]?.reason}`);
      const results = guest.results(domain);
      calls.forEach(({ nr, args }, i) => {
        const expected = nr === 63 ? -ERRNO.ENOSYS : -ERRNO.EFAULT;
        check(results[i] === expected, `hypercall ${nr}(${args.join(", ")}) answered ${results[i]}, not ${expected}`);
      });
    };
    if (under.hypercalls !== undefined && badPointer !== undefined)
      test("bad pointers are answered by EFAULT", () => pointerTest(badPointer));

    const garbageTest = async ([from, to]: readonly [number, number]): Promise<void> => {
      const changes = fc.array(fc.tuple(fc.nat(Math.max(0, to - from - 1)), fc.nat(255)), {
        minLength: 1,
        maxLength: 12,
      });
      await fc.assert(
        fc.asyncProperty(changes, async (list) => {
          const { hypervisor, create, faults } = await boot(under);
          const victim = await create("victim", under.compute);
          const before = state(hypervisor, victim);
          const { free } = hypervisor.machine.frames;
          const image = under.compute.slice();
          for (const [at, value] of list) image[from + at] = value;
          try {
            const domain = await create("garbage", image);
            hypervisor.unpause(domain);
            await hypervisor.run({ until: MS / 5, done: () => domain.shutdownReason !== null });
            await hypervisor.destroyDomain(domain);
          } catch (error) {
            if (!(error instanceof ImageError)) throw error;
          }
          check(faults.length === 0, `the port failed: ${faults[0]?.reason}`);
          check(hypervisor.machine.frames.free === free, "frames are missing after the domain's end");
          check(state(hypervisor, victim) === before, "another domain has changed");
        }),
        limits,
      );
    };
    if (code !== undefined) test("code that is garbage harms its own domain alone", () => garbageTest(code));

    test("a domain's end gives everything back; equal runs are equal", async () => {
      const ends: string[] = [];
      for (let i = 0; i < 2; i++) {
        const { hypervisor, create } = await boot(under);
        const { frames, domains } = hypervisor.machine;
        // With its first domain a port may take frames for itself.
        await hypervisor.destroyDomain(await create("first", under.compute));
        const { free } = frames;
        const domain = await create("compute", under.compute);
        hypervisor.unpause(domain);
        await hypervisor.run({ until: MS / 2 });
        ends.push(state(hypervisor, domain));
        await hypervisor.destroyDomain(domain);
        check(frames.free === free, `${free - frames.free} frames are missing after the domain's end`);
        check([...domains.keys()].join() === "0", "the domain is still there");
        check(hypervisor.machine.timers.size === 0, "a timer is left");
      }
      check(ends[0] === ends[1], "two equal runs differ");
    });
  });
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
