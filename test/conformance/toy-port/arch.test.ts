/** The toy port passes the conformance kit that every port runs. */
import { describe, expect, test } from "vitest";
import type { ArchHost } from "../../../core/architecture/arch-backend.ts";
import type { GuestAbi } from "../../../core/architecture/guest-abi.ts";
import type { Domain } from "../../../core/domain/domain.ts";
import { definePlugin, type Plugin } from "../../../core/plugin.ts";
import { type ArchUnderTest, archSuite } from "../arch.ts";
import { ToyArch } from "./backend.ts";
import { Assembler } from "./isa.ts";
import toy from "./plugin.ts";
import { begin, count, upcalls } from "./snippets.ts";

/** Fills memory with what a small generator makes of its registers. */
function compute(): Assembler {
  const p = new Assembler();
  p.li(1, 12345).li(2, 1103515245).li(3, 0x4_0000).li(4, 0x5_0000);
  p.label("next").alu("mul", 1, 1, 2).addi(1, 1, 12345).addi(3, 3, 4).bltu(3, 4, "store").li(3, 0x4_0000);
  p.label("store").sw(1, 3).lw(5, 3).alu("shr", 6, 5, 4).alu("xor", 7, 7, 6).beq(7, 6, "next");
  return p.call("routine").jump("next").label("routine").sb(7, 3, 1).lb(8, 3).alu("add", 9, 9, 8).return();
}

function counting(): Assembler {
  const p = begin(new Assembler());
  p.data("count", 4);
  upcalls(p, () => count(p, "count"));
  return p.label("spin").addi(1, 1, 1).jump("spin");
}

function word(domain: Domain, address: number): number {
  const bytes = new Uint8Array(4);
  if (!domain.arch!.copyFromGuest(domain.vcpus[0]!, address, 0, bytes, 4)) throw new Error(`no memory at ${address}`);
  return new DataView(bytes.buffer).getInt32(0);
}

const image = compute().image();
const counter = counting();
const MEMORY = 1024 * 1024;

const port: ArchUnderTest = {
  name: "toy",
  type: "toy",
  makePlugin: () => toy,
  compute: image,
  code: [12, image.length],
  upcalls: { image: counter.image(), count: (domain) => word(domain, counter.address("count")) },
  edge: () => ({ lo: MEMORY - 0x8000, hi: 0, length: 0x8000 }),
  hypercalls: (calls) => {
    const p = new Assembler();
    for (const [i, { nr, args }] of calls.entries()) p.hypercall(nr, args, `result ${i}`);
    p.shutdown();
    return { image: p.image(), results: (domain) => calls.map((_, i) => word(domain, p.address(`result ${i}`))) };
  },
  badPointer: 0x7000_0000,
};

archSuite({ describe, test, check: (ok, message) => expect(ok, message).toBe(true) }, port);

/** Ports with one fault each, and what the kit says of them. */
class ShortRun extends ToyArch {
  override run(...[vcpu, budget, exit]: Parameters<ToyArch["run"]>): number {
    return budget < 3 ? super.run(vcpu, budget, exit) : super.run(vcpu, budget - 1, exit) + 1;
  }
}
class Deaf extends ToyArch {
  override eventsDeliverable(): boolean {
    return false;
  }
}
class Throwing extends ToyArch {
  override copyFromGuest(...args: Parameters<ToyArch["copyFromGuest"]>): boolean {
    if (!super.copyFromGuest(...args)) throw new Error("bad address");
    return true;
  }
}
class Optimist extends ToyArch {
  override copyToGuest(...args: Parameters<ToyArch["copyToGuest"]>): boolean {
    super.copyToGuest(...args);
    return true;
  }
}
class Trusting extends ToyArch {
  override gfnToMfn(_domain: Domain, gfn: number): number {
    return gfn;
  }
}
class Sloppy extends ToyArch {
  override mapGrant(...[vcpu, lo, hi, mfn, flags]: Parameters<ToyArch["mapGrant"]>): number {
    return super.mapGrant(vcpu, (lo & ~0xfff) >>> 0, hi & 0, mfn, flags);
  }
}
class Throwaway extends ToyArch {
  override identify(...args: Parameters<ToyArch["identify"]>): GuestAbi {
    if (args[0].length < 12) throw new TypeError("short");
    return super.identify(...args);
  }
}

test.each<[string, new (host: ArchHost) => ToyArch, RegExp]>([
  ["a run that is one short", ShortRun, /^slices change what a guest computes|^two runs differ/],
  ["events that are never deliverable", Deaf, /^a pending, unmasked event is not deliverable/],
  ["a bad address that throws", Throwing, /bad address/],
  ["a copy that says yes", Optimist, /^a copy of \d+ at/],
  ["gfns that are believed", Trusting, /is not .*'s$/],
  ["grants at any address", Sloppy, /^a grant was mapped off a page boundary/],
  ["an image error that is none", Throwaway, /which is no ImageError/],
])("the kit catches %s", async (_name, Mutant, message) => {
  const tests: (() => void | Promise<void>)[] = [];
  const makePlugin = (): Plugin =>
    definePlugin({
      name: "mutant",
      api: "^1.0.0",
      apply: ({ hooks }) => hooks.arch.for("toy").tap("mutant", (host) => new Mutant(host)),
    });
  archSuite(
    {
      describe: (_title, body) => body(),
      test: (_title, body) => void tests.push(body),
      check: (ok, what) => {
        if (!ok) throw new Error(what);
      },
    },
    { ...port, makePlugin, runs: 2 },
  );
  const said: string[] = [];
  for (const body of tests)
    try {
      await body();
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : (error as Error);
      said.push(cause.message);
    }
  expect(said.some((one) => message.test(one))).toBe(true);
});
