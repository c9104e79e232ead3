/** `hookvisor run` from its arguments to its exit code, with the project's own guests, in this process. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { main } from "../../../core/node/main.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-run-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function put(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

class Collector extends Writable {
  text = "";
  onText: () => void = () => {};
  override _write(chunk: Buffer | string, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
    this.onText();
  }
}

/** A terminal, as far as the command looks at one. */
class FakeTty extends PassThrough {
  readonly isTTY = true;
  readonly modes: boolean[] = [];
  setRawMode(raw: boolean): void {
    this.modes.push(raw);
  }
}

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs the command; `input` is what stdin holds, or what comes when the output asks for it. */
async function run(
  argv: readonly string[],
  input: string | ((out: Collector, stdin: FakeTty) => void) = "",
): Promise<Ran & { modes: boolean[] }> {
  const stdout = new Collector();
  const stderr = new Collector();
  const live = typeof input === "function";
  const stdin = live ? new FakeTty() : new PassThrough();
  if (live) input(stdout, stdin as FakeTty);
  else stdin.end(input);
  const code = await main(["run", ...argv], { stdin, stdout, stderr });
  return { code, out: stdout.text.replaceAll("\r", ""), err: stderr.text, modes: live ? (stdin as FakeTty).modes : [] };
}

describe("hookvisor run", () => {
  test("a guest that powers off: 0, its console and nothing else", async () => {
    const { code, out, err } = await run(["hello"]);
    expect(code).toBe(0);
    expect(out).toContain("Hello, Xen!\n");
    expect(err).toBe("");
  });

  test("a config with overrides", async () => {
    const kernel = join(import.meta.dirname, "..", "..", "guests", "images", "hello.elf");
    const config = put(
      "guest.cfg",
      `name = "deb"\nkernel = "${kernel}"\nmemory = 16\nextra = "one two"\nserial = "pty"\n`,
    );
    const plain = await run([config]);
    expect(plain.out).toContain('16 MiB, command line "one two"');
    expect(plain.err).toBe(`hookvisor: ${config}:5:1: 'serial' is not supported and is ignored\n`);
    const changed = await run([config, "memory=24", "extra=three", "-q"]);
    expect(changed.out).toContain('24 MiB, command line "three"');
    expect(changed.err).toBe("");
    const option = await run([config, "memory=24", "--memory", "20", "--extra", "four", "-q"]);
    expect(option.out).toContain('20 MiB, command line "four"');
  });

  test("several side by side, each line with its name", async () => {
    const { code, out } = await run(["hello", "hello", "hello-2:extra=second"]);
    expect(code).toBe(0);
    expect(out).toMatch(/^hello: {3}.*command line ""$/m);
    expect(out).toMatch(/^hello-2: .*command line "second"$/m);
  });

  test("waiting for what can never come: 124, and a sentence", async () => {
    const { code, err } = await run(["events"]);
    expect(code).toBe(124);
    expect(err).toMatch(/^hookvisor: events waits for an event that can never come: .*\n$/);
  });

  test("virtual and wall limits: 124", async () => {
    const virtual = await run(["busy", "--max-time", "20ms"]);
    expect(virtual).toMatchObject({
      code: 124,
      err: "hookvisor: stopped at the limit of 20 ms of virtual time (--max-time)\n",
    });
    const wall = await run(["busy", "--timeout", "300ms"]);
    expect(wall).toMatchObject({
      code: 124,
      err: "hookvisor: stopped at the limit of 0.3 s of wall time (--timeout)\n",
    });
  });

  test("--json: one document on stdout, exact times", async () => {
    const { code, out, err } = await run(["busy", "--max-time", "20ms", "--json", "--seed", "7", "--pcpus", "2"]);
    expect(code).toBe(124);
    expect(err).toContain("busy: counting");
    const result = JSON.parse(out);
    expect(result).toMatchObject({ exitCode: 124, end: "limit", scheduler: "credit", pcpus: 2, seed: 7, faults: [] });
    const [domain] = result.domains;
    expect(domain).toMatchObject({ name: "busy", outcome: "running", restarts: 0, message: null });
    expect(domain.cpuNs + domain.runnableNs + domain.blockedNs + domain.offlineNs).toBe(result.virtualNs);
  });

  test("on_poweroff = restart boots again; preserve keeps it", async () => {
    const again = await run(["hello", "on_poweroff=restart", "--max-time", "1ms", "--json"]);
    expect(again.code).toBe(124);
    expect(JSON.parse(again.out).domains[0].restarts).toBeGreaterThan(2);
    const kept = await run(["hello", "on_poweroff=preserve"]);
    expect(kept.code).toBe(0);
    expect(kept.err).toContain("hello is kept as it is (preserve)");
  });

  test("stdin without a terminal is typed at the console", async () => {
    const { code, out } = await run(["events"], "hi there\nquit\n");
    expect(out).toContain("hi there");
    expect(code).toBe(0);
  });

  test("lines of stdin go to the domain that they name", async () => {
    const { code, out, err } = await run(["events", "events"], "events-2: quit\nnobody\nevents: quit\n");
    expect(code).toBe(0);
    expect(err).toContain("a line of input begins with the name of a domain and a colon (events, events-2)");
    expect(out).toContain("events-2: ");
  });

  test("an input script, and an equal trace for an equal run, under both schedulers", async () => {
    const script = put(
      "session.txt",
      '# what a person would do\nexpect "quit" ends\nsend hi\\n\nexpect hi\nsend quit\\n\n',
    );
    for (const scheduler of ["credit", "round-robin"]) {
      const traces: string[] = [];
      for (const name of ["one", "two"]) {
        const trace = join(folder, `${scheduler}-${name}.trace`);
        const { code, err } = await run(["events", "--input", script, "--trace", trace, "--scheduler", scheduler]);
        expect({ code, err }).toEqual({ code: 0, err: "" });
        traces.push(readFileSync(trace, "utf8"));
      }
      expect(traces[0]).toBe(traces[1]);
      expect(traces[0]).toMatch(/^# hookvisor trace 1\n/);
      expect(traces[0]).toMatch(/^# machine \{.*"seed":1.*"scheduler":"(credit|round-robin)"\}$/m);
      expect(traces[0]).toMatch(/^\d+ input domain=events bytes=68690a$/m);
      expect(traces[0]).toMatch(/^\d+ shutdown d1 reason=0$/m);
    }
  });

  test("a script that waits for what never comes says where", async () => {
    const script = put("never.txt", "expect nothing like it\n");
    const { code, err } = await run(["events", "--input", script]);
    expect(code).toBe(124);
    expect(err).toContain(`${script}:1: the guest never printed 'nothing like it'`);
  });

  test("a terminal: raw while attached, Ctrl-] detaches and says so, Enter attaches again, and it is given back", async () => {
    const { code, out, err, modes } = await run(["events"], (stdout, stdin) => {
      let step = 0;
      stdout.onText = () => {
        if (step === 0 && stdout.text.includes('"quit" ends')) {
          step = 1;
          stdin.write("\x1d");
          setTimeout(() => stdin.write("\n"), 50);
          setTimeout(() => stdin.write("quit\n"), 100);
        }
      };
    });
    expect(code).toBe(0);
    expect(err).toContain("attached to events; Ctrl-] detaches");
    expect(err).toContain("detached from events, which runs on; Enter attaches again");
    expect(out).toContain("events:");
    expect(modes).toEqual([true, false, true, false]);
  });

  for (const [error, code, said] of [
    ["EPIPE", 141, ""],
    ["ENOSPC", 1, "hookvisor: The output cannot be written: no space is left on the device (ENOSPC).\n"],
  ] as const)
    test(`output that nobody takes (${error}) ends the run`, async () => {
      const stdout = new Writable({
        write: (_chunk, _encoding, done) => done(Object.assign(new Error(`write ${error}`), { code: error })),
      });
      const stderr = new Collector();
      const stdin = new PassThrough();
      expect(await main(["run", "busy"], { stdin, stdout, stderr })).toBe(code);
      expect(stderr.text).toBe(said);
    });

  test("a kernel that crashes: 3, and what it did", async () => {
    const kernel = readFileSync(join(import.meta.dirname, "..", "..", "guests", "images", "hello.elf"));
    // The entry's first instructions become ud2.
    const entry = kernel.readUInt32LE(0x18);
    const header = kernel.readUInt32LE(0x20);
    let at = -1;
    for (let i = 0; i < kernel.readUInt16LE(0x38); i++) {
      const segment = header + i * kernel.readUInt16LE(0x36);
      const [offset, address, size] = [8, 0x10, 0x20].map((field) => kernel.readUInt32LE(segment + field)) as [
        number,
        number,
        number,
      ];
      if (kernel.readUInt32LE(segment) === 1 && entry >= address && entry < address + size)
        at = offset + entry - address;
    }
    expect(at).toBeGreaterThan(0);
    const broken = Buffer.from(kernel);
    broken.write("\x0f\x0b\x0f\x0b", at, "latin1");
    writeFileSync(join(folder, "broken.elf"), broken);
    const { code, err } = await run([join(folder, "broken.elf")]);
    expect(err).toMatch(/^hookvisor: broken crashed: .+\n/);
    expect(code).toBe(3);
    const both = await run([join(folder, "broken.elf"), "hello"]);
    expect(both.code).toBe(3);
    expect(both.out).toContain("Hello, Xen!");
  });
});

test("list-plugins names every plugin with what it provides", async () => {
  const stdout = new Collector();
  const stdin = new PassThrough();
  stdin.end();
  expect(await main(["list-plugins", "--json", "--hooks"], { stdin, stdout, stderr: stdout })).toBe(0);
  const { plugins, hooks } = JSON.parse(stdout.text) as {
    plugins: { name: string; provides: string[] }[];
    hooks: object;
  };
  expect(plugins.find((p) => p.name === "device-vbd")?.provides).toEqual(["device vbd"]);
  expect(plugins.find((p) => p.name === "scheduler-credit")?.provides).toEqual(["scheduler credit"]);
  expect(Object.keys(hooks)).toContain("contextSwitch");
});

test("list-plugins and help fit a terminal of 80 columns", async () => {
  for (const argv of [["list-plugins", "--hooks"], ["--help"], ["run", "--help"]]) {
    const stdout = Object.assign(new Collector(), { isTTY: true, columns: 80 });
    expect(await main(argv, { stdin: new PassThrough(), stdout, stderr: stdout })).toBe(0);
    for (const line of stdout.text.split("\n")) expect(line.length, line).toBeLessThanOrEqual(80);
    expect(stdout.text).not.toContain("default: []");
  }
});

test("a shell completes commands, options, and what plugins provide", async () => {
  const stdout = new Collector();
  expect(await main(["completion", "bash"], { stdin: new PassThrough(), stdout, stderr: stdout })).toBe(0);
  const completed = (...words: readonly string[]): string[] => {
    const ask = `COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}; _hookvisor; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout: said, status } = spawnSync("bash", ["-c", `${stdout.text}\n${ask}`], {
      encoding: "utf8",
      cwd: folder,
    });
    expect(status).toBe(0);
    return said.split("\n").filter((word) => word !== "");
  };
  put("hell.cfg", "");
  expect(completed("hookvisor", "ru")).toEqual(["run"]);
  expect(completed("hookvisor", "run", "--max")).toEqual(["--max-time"]);
  expect(completed("hookvisor", "run", "hell")).toEqual(["hello", "hello-2007", "hell.cfg"]);
  const schedulers = readdirSync(new URL("../../../plugins", import.meta.url))
    .filter(
      (name) =>
        name.startsWith("scheduler-") && existsSync(new URL(`../../../plugins/${name}/plugin.ts`, import.meta.url)),
    )
    .map((name) => name.slice("scheduler-".length))
    .sort();
  expect(completed("hookvisor", "run", "--scheduler", "")).toEqual(schedulers);
  expect(completed("hookvisor", "completion", "z")).toEqual(["zsh"]);
});

test("help has examples, completions know the options", async () => {
  const said = async (...argv: string[]): Promise<string> => {
    const stdout = new Collector();
    expect(await main(argv, { stdin: new PassThrough(), stdout, stderr: stdout })).toBe(0);
    return stdout.text;
  };
  expect(await said("run", "--help")).toContain("hookvisor run --kernel grub-x86_64-xen.bin");
  expect(await said("--help")).toContain("list-plugins");
  expect(await said("--version")).toMatch(/^\d+\.\d+\.\d+\n$/);
  for (const shell of ["bash", "zsh", "fish"]) {
    const script = await said("completion", shell);
    expect(script).toContain("list-plugins");
    expect(script).toMatch(/max-time/);
  }
});

test("cpupools of the config: a domain runs in the one that it names, another name is refused", async () => {
  const pools = [
    { name: "main", scheduler: "credit", cpus: [0, 1], params: { ratelimit_us: 0 } },
    { name: "cores", scheduler: "round-robin", cpus: [2, 3], granularity: "core" },
  ];
  const config = put("pools.json", JSON.stringify({ pcpus: 4, threadsPerCore: 2, pools }));
  const trace = join(folder, "pools.trace");
  const ran = await run(["--config", config, "--trace", trace, "hello", "pool=cores"]);
  expect([ran.code, ran.err.includes("hookvisor:")]).toEqual([0, false]);
  const pcpus = new Set([...readFileSync(trace, "utf8").matchAll(/^\d+ switch pcpu=(\d+)/gm)].map((found) => found[1]));
  expect([...pcpus]).toEqual(["2"]);
  const refused = await run(["--config", config, "hello", "pool=nope"]);
  expect([refused.code, refused.err]).toEqual([1, "hookvisor: There is no cpupool 'nope'; there are: main, cores.\n"]);
});
