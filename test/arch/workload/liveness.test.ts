/** Nobody is forgotten: finite workloads of every kind end, whatever pauses, affinities, rates and cuts of the runs come in between. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { ShutdownReason } from "../../../core/domain/domain.ts";
import { MS, Rig } from "./rig.ts";

const work = fc.constantFrom<unknown>(1, "3us", { exponential: "20us" }, { uniform: ["1us", "200us"] });
const waiting = fc.constantFrom<object>({ wait: "block" }, { wait: "spin" }, { wait: "spin", yieldAfter: "5us" });
const count = fc.integer({ min: 1, max: 12 });

const shared = fc.oneof(
  fc.record({ work, phases: count, waiting }).map(({ waiting: how, ...keys }) => ({
    behaviour: "fork-join",
    ...keys,
    ...how,
  })),
  fc
    .record({
      critical: work,
      think: work,
      rounds: count,
      locks: fc.integer({ min: 1, max: 2 }),
      fair: fc.boolean(),
      waiting,
    })
    .map(({ waiting: how, ...keys }) => ({ behaviour: "lock", ...keys, ...how })),
);
const own = fc.oneof(
  fc.record({ jobs: count, budget: work }).map((keys) => ({ behaviour: "periodic", period: "100us", ...keys })),
  fc.record({ requests: count, service: work }).map((keys) => ({ behaviour: "io", rate: 20000, ...keys })),
  fc.record({ repeat: count }).map((keys) => ({
    behaviour: "bursts",
    bursts: [
      ["9us", "30us"],
      [0, 7],
    ],
    ...keys,
  })),
);
const behaviour = fc.oneof(
  shared,
  own,
  fc
    .record({
      repeat: fc.integer({ min: 1, max: 3 }),
      parts: fc.array(fc.oneof(shared, own), { minLength: 1, maxLength: 3 }),
    })
    .map(({ repeat, parts }) => ({ behaviour: "sequence", repeat, of: parts.map((part) => ({ do: part })) })),
);

test("finite workloads end", async () => {
  let ended = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        seed: fc.nat(1000),
        vcpus: fc.array(behaviour, { minLength: 1, maxLength: 5 }),
        pcpus: fc.integer({ min: 1, max: 3 }),
        quanta: fc.boolean(),
        cores: fc.boolean(),
        cpuMhz: fc.constantFrom(1000, 333, 2500),
        hog: fc.boolean(),
        disturbances: fc.array(fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 1, max: 900_000 })), {
          maxLength: 12,
        }),
      }),
      async ({ seed, vcpus, pcpus: number, quanta, cores, cpuMhz, hog, disturbances }) => {
        const pcpus = cores ? 2 * number : number;
        const rig = await Rig.boot({ pcpus, quanta, cores, cpuMhz });
        const domain = await rig.domain("d", { seed, vcpus }, { vcpus: vcpus.length });
        if (hog) await rig.domain("hog", { behaviour: "hog" });
        const { scheduling, machine } = rig.hypervisor;
        let now = 0;
        for (const [what, after] of disturbances) {
          now += after;
          rig.run(now);
          const vcpu = domain.vcpus[what % domain.vcpus.length]!;
          if (what < 2) {
            scheduling.pauseVcpu(vcpu);
            machine.timers.arm(machine.now + after, () => scheduling.unpauseVcpu(vcpu));
          } else if (what < 4) {
            const pcpu = new Set([after % pcpus]);
            scheduling.setAffinity(vcpu, pcpu, pcpu);
          } else if (what === 4) {
            // An event that nobody asked for: it wakes who waits.
            rig.hypervisor.machine.control.clearFlag(vcpu, 1);
          } else {
            scheduling.pauseDomain(domain);
            now += 1000;
            rig.run(now);
            scheduling.unpauseDomain(domain);
          }
        }
        for (let turn = 0; turn < 200 && domain.shutdownReason === null; turn++) {
          now += 50 * MS;
          rig.run(now);
        }
        expect(domain.shutdownReason).toBe(ShutdownReason.poweroff);
        ended++;
      },
    ),
    { numRuns: 60 },
  );
  expect(ended).toBeGreaterThanOrEqual(60);
});
