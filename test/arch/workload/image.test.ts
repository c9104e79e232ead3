/** What is wrong with an image is one sentence that names the place; what is right is read as it is written. */
import { expect, test } from "vitest";
import { readImage } from "../../../arch/workload/image.ts";
import { ImageError } from "../../../core/errors.ts";
import { MS, Rig } from "./rig.ts";

function problem(image: unknown): string {
  const text = typeof image === "string" ? image : JSON.stringify(image);
  try {
    readImage(new TextEncoder().encode(text), "x.json");
  } catch (error) {
    if (error instanceof ImageError) return error.message;
    throw error;
  }
  return "nothing";
}

const periodic = (more: object) => ({ behaviour: "periodic", period: "10ms", budget: "1ms", ...more });
const lock = { behaviour: "lock", critical: "1us", think: "1us" };
const thread = (more: object) => ({ tasks: { thread0: { loop: 1, ...more } } });

test("malformed text", () => {
  expect([
    problem(""),
    problem("hog"),
    problem('{"behaviour": "hog"} x'),
    problem('{"behaviour": "hog"'),
    problem('{\n  "behaviour": "periodic"\n  "period": 1}'),
    problem('{"behaviour": "h\\x"}'),
    problem("[1, /* "),
    problem("[".repeat(200)),
    problem("3"),
    (() => {
      try {
        readImage(Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 0xff), "vmlinuz");
        return "nothing";
      } catch (error) {
        return (error as Error).message;
      }
    })(),
  ]).toMatchSnapshot();
});

test("malformed behaviours", () => {
  expect([
    problem({}),
    problem([]),
    problem({ behaviour: "pig" }),
    problem({ behaviour: 3 }),
    problem({ vcpus: [{ behaviour: "hog" }, { behaviour: "hog", speed: 2 }] }),
    problem({ vcpus: { behaviour: "hog" }, seed: -1 }),
    problem({ vcpus: { behaviour: "hog" }, vcpu: 1 }),
    problem(periodic({ budget: "11ms" })),
    problem(periodic({ budget: "ten" })),
    problem(periodic({ budget: 0 })),
    problem(periodic({ budget: "1 fortnight" })),
    problem(periodic({ budget: 1.5 })),
    problem(periodic({ jitter: "10ms" })),
    problem(periodic({ late: "drop" })),
    problem(periodic({ jobs: 0 })),
    problem(periodic({ budget: { pareto: "1ms" } })),
    problem(periodic({ budget: { uniform: ["2ms", "1ms"] } })),
    problem(periodic({ budget: { uniform: ["2ms"] } })),
    problem(periodic({ budget: { normal: ["2ms", "1ms"], uniform: [1, 2] } })),
    problem('{"behaviour":"periodic","period":1000,"period":2000,"budget":1}'),
    problem({ behaviour: "io", service: "1us" }),
    problem({ behaviour: "io", rate: 100, interarrival: "1ms", service: "1us" }),
    problem({ behaviour: "io", rate: 0, service: "1us" }),
    problem({ behaviour: "fork-join", work: "1ms", imbalance: 2 }),
    problem({ behaviour: "fork-join", work: "1ms", wait: "block", yieldAfter: "1us" }),
    problem({ ...lock, locks: 0 }),
    problem({ ...lock, fair: "yes" }),
    problem({ behaviour: "tick-dodger", period: "10ms", before: "10ms" }),
    problem({ behaviour: "tick-dodger", period: "10ms", before: "5ms", after: "5ms" }),
    problem({ behaviour: "bursts", bursts: [] }),
    problem({ behaviour: "bursts", bursts: [["1ms"]] }),
    problem({ behaviour: "bursts", bursts: [[0, 0]] }),
    problem({ behaviour: "sequence", of: [{ do: { behaviour: "hog" } }, { do: lock }] }),
    problem({ behaviour: "sequence", of: [{ do: { ...lock, rounds: 2 }, for: "1ms" }] }),
    problem({ behaviour: "sequence", of: [{ do: { behaviour: "hog" }, weight: 1 }] }),
    problem({ behaviour: "sequence", of: [{ do: { behaviour: "sequence", of: [{ do: { behaviour: "pig" } }] } }] }),
    problem({ behaviour: "mix", of: [{ do: { ...lock, rounds: 2 } }] }),
    problem({ behaviour: "mix", of: [{ do: { behaviour: "hog" }, for: "1ms", weight: 0 }] }),
  ]).toMatchSnapshot();
});

test("malformed rt-app files", () => {
  expect([
    problem({ tasks: {} }),
    problem({ tasks: [] }),
    problem({ tasks: { a: { run: 10 } }, task: {} }),
    problem(thread({ run: "10ms" })),
    problem(thread({ run: -5 })),
    problem(thread({ walk: 5 })),
    problem({ tasks: { thread0: { phases: { p1: { run: "x" } } } } }),
    problem({ tasks: { thread0: { phases: { p1: { run: 1 } }, sleep: 3 } } }),
    problem({ tasks: { thread0: { phases: { p1: { loop: -2, run: 1 } } } } }),
    problem({ tasks: { thread0: { phases: { p1: { loop: -1, resume: "x" } } } } }),
    problem({ tasks: { thread0: { resume: "x" } } }),
    problem(thread({ timer: 5 })),
    problem(thread({ timer: { ref: "unique" } })),
    problem(thread({ timer: { ref: "unique", period: 10, mode: "loose" } })),
    problem(thread({ wait: "q" })),
    problem(thread({ wait: { ref: "q" } })),
    problem(thread({ lock: "" })),
    problem(thread({ fork: "thread1" })),
    problem(thread({ exec: 1000, period: 20000 })),
    problem(thread({ instance: 5000, run: 1 })),
    problem({ ...thread({ run: 1 }), global: { duration: "long" } }),
  ]).toMatchSnapshot();
});

test("every vCPU needs a behaviour, and every behaviour a vCPU", async () => {
  const rig = await Rig.boot();
  const hog = { behaviour: "hog" };
  const create = async (image: unknown, vcpus: number, extra = "") => {
    try {
      await rig.domain("d", image, { vcpus, extra });
    } catch (error) {
      if (error instanceof ImageError) return error.message;
      throw error;
    }
    return "nothing";
  };
  expect([
    await create([hog], 2),
    await create({ vcpus: [hog, hog, hog] }, 2),
    await create({ tasks: { a: { run: 1 }, b: { instance: 4, run: 1 } } }, 2),
    await create(hog, 1, "seed=x"),
    await create(hog, 3, "seed=5"),
  ]).toMatchSnapshot();
});

test("nothing of a domain is left when it is destroyed: no timer fires any more", async () => {
  const rig = await Rig.boot({ pcpus: 2 });
  const { timers, frames } = rig.hypervisor.machine;
  const before = [timers.size, frames.free];
  const domain = await rig.domain("d", { vcpus: [periodic({}), { ...lock, wait: "block" }, lock] }, { vcpus: 3 });
  rig.run(25.5 * MS);
  await rig.hypervisor.destroyDomain(domain);
  expect([timers.size, frames.free]).toEqual(before);
  expect(rig.run(100 * MS)).not.toBe("hold");
});

test("memory and hypercalls that there are not answer their errnos", async () => {
  const rig = await Rig.boot();
  const domain = await rig.domain("d", { behaviour: "hog" });
  const arch = domain.arch!;
  const vcpu = domain.vcpus[0]!;
  expect(arch.copyFromGuest(vcpu, 0, 0, new Uint8Array(8), 8)).toBe(false);
  expect(arch.copyToGuest(vcpu, 0, 0, new Uint8Array(8), 8)).toBe(false);
  expect(arch.gfnToMfn(domain, 0)).toBe(-1);
  expect(arch.initialiseVcpu(vcpu, vcpu, 0, 0)).toBe(-38);
  expect(arch.setPhysmap(domain, 0, 1)).toBe(-38);
  expect(arch.mapGrant(vcpu, 0, 0, 1, 0)).toBe(-1);
  rig.run(MS);
  expect(arch.describe(vcpu)).toBe("d vcpu 0: runs");
});
