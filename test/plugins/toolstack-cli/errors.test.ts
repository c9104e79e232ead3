/**
 * The user's mistakes: a wrong command, option, config, image, disk or plugin is one clear sentence and exit code 1, without a stack
 * trace. Every text is a snapshot.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { main } from "../../../core/node/main.ts";
import { hookvisor, PROJECT } from "../../tools/hookvisor-run.ts";

let folder = "";
const hello = readFileSync(join(PROJECT, "test", "guests", "images", "hello.elf"));

function put(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

function replaced(bytes: Buffer, from: string, to: string): Buffer {
  const copy = Buffer.from(bytes);
  for (let at = copy.indexOf(from, 0, "latin1"); at >= 0; at = copy.indexOf(from, at + 1, "latin1"))
    copy.write(to, at, "latin1");
  return copy;
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-errors-"));
  mkdirSync(join(folder, "folder"));
  put("truncated.elf", hello.subarray(0, 200));
  put("half.elf", hello.subarray(0, hello.length >> 1));
  put("text.txt", "this is no kernel\n");
  put("noxen.elf", replaced(replaced(hello, "Xen\0", "Nex\0"), "__xen_guest", "__nex_guest"));
  put("elf32.elf", Buffer.concat([hello.subarray(0, 4), Buffer.from([1]), hello.subarray(5)]));
  put("empty.img", "");
  put("sector.img", new Uint8Array(512));
  put("open.cfg", 'name = "x"\ndisk = [ "a,raw,xvda,w"\n');
  put("quote.cfg", 'kernel = "hello\nmemory = 3\n');
  put("word.cfg", "memory = lots\n");
  put("equals.cfg", "memory 64\n");
  put("octal.cfg", "memory = 089\n");
  put("type.cfg", "kernel = 7\n");
  put("action.cfg", `kernel = "${join(folder, "text.txt")}"\non_crash = "coredump-restart"\n`);
  put("script.txt", "expect a\nshout b\n");
  put("escape.txt", "send a\\q\n");
  put("binary", Uint8Array.from([1, 2, 3, 4, 0, 0, 7]));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** What the command prints on stderr, with its exit code; paths without the folder. */
async function said(...argv: string[]): Promise<string> {
  let text = "";
  const stderr = new Writable({
    write(chunk, _encoding, done) {
      text += String(chunk);
      done();
    },
  });
  const stdin = new PassThrough();
  stdin.end();
  const code = await main(argv, { stdin, stdout: new PassThrough(), stderr });
  return `${code}: ${clean(text)}`;
}

/** Without what differs by place, and lists that every new plugin makes longer. */
function clean(text: string): string {
  return text
    .replace(/(the images are|there are:|the keys are) [^;]*\.$/m, "$1 ...")
    .replaceAll(`${folder}/`, "")
    .replaceAll(PROJECT, "PROJECT")
    .trim();
}

async function all(lines: readonly (readonly string[])[]): Promise<string[]> {
  const texts: string[] = [];
  for (const line of lines) {
    const text = await said(...line);
    expect(text).not.toMatch(/\n {4}at |unexpected failure/);
    texts.push(text);
  }
  return texts;
}

const at = (name: string): string => join(folder, name);

describe("one clear sentence, exit code 1", () => {
  test("commands and options", async () => {
    expect(
      await all([
        ["fly"],
        ["rum"],
        ["run", "--memroy", "64"],
        ["run"],
        ["run", "--memory"],
        ["run", "hello", "--memory", "lots"],
        ["run", "hello", "--vcpus", "0"],
        ["run", "hello", "--pcpus", "many"],
        ["run", "hello", "--pcpus", "0"],
        ["run", "hello", "--cpu-mhz", "-3"],
        ["run", "hello", "--max-time", "soon"],
        ["run", "hello", "--timeout", "-1s"],
        ["run", "hello", "--scheduler", "best"],
        ["run", "hello", "--type", "hvm9"],
        ["run", "hello", "--name", "a b"],
        ["run", "nothing-like-this"],
        ["run", "helo"],
        ["run", "hello", "wieght=3"],
        ["run", "hello", "--trace", at("nowhere/run.trace")],
        ["run", "hello", "colour=red"],
        ["run", "hello", "memroy=3"],
        ["run", "hello", "other:memory=3"],
        ["run", "hello", "vcpus=[1,"],
        ["run", "hello", "--memory", "4096"],
        ["completion", "tcsh"],
        ["completion"],
        ["--plugin"],
      ]),
    ).toMatchInlineSnapshot(`
      [
        "1: hookvisor: Unknown command 'fly'; see hookvisor --help.",
        "1: hookvisor: Unknown command 'rum'; perhaps run; see hookvisor --help.",
        "1: hookvisor: Unknown option '--memroy'; perhaps --memory; see hookvisor run --help.",
        "1: hookvisor: There is nothing to run: give a kernel, a config file or the name of an image, or --kernel FILE; see hookvisor run --help.",
        "1: hookvisor: Option --memory needs a value; see hookvisor run --help.",
        "1: hookvisor: --memory: 'memory' must be a whole number from 1 to 4096, got "lots".",
        "1: hookvisor: --vcpus: 'vcpus' must be a whole number from 1 to 64, got "0".",
        "1: hookvisor: Option --pcpus: it must be a number, got 'many'.",
        "1: hookvisor: Option --pcpus: it must be at least 1, got '0'.",
        "1: hookvisor: Option --cpu-mhz: it must be above 0, got '-3'.",
        "1: hookvisor: Option --max-time: it must be a duration such as 64s, 500ms or 2m, got 'soon'.",
        "1: hookvisor: Option --timeout: it must be a duration such as 64s, 500ms or 2m, got '-1s'.",
        "1: hookvisor: No plugin provides scheduler 'best'; there are: ...",
        "1: hookvisor: Guest type 'hvm9': no plugin provides that type; there are: ...",
        "1: hookvisor: --name: 'name' must be 1 to 64 characters without blanks, ':' or slashes, got "a b".",
        "1: hookvisor: 'nothing-like-this' is no file and no image; the images are ...",
        "1: hookvisor: 'helo' is no file and no image; perhaps hello is meant.",
        "1: hookvisor: wieght=3: there is no key 'wieght'; perhaps weight.",
        "1: hookvisor: Trace nowhere/run.trace cannot be written: there is no such folder.",
        "1: hookvisor: colour=red: there is no key 'colour'; the keys are ...",
        "1: hookvisor: memroy=3: there is no key 'memroy'; perhaps memory.",
        "1: hookvisor: other:memory=3: there is no domain 'other'; there are hello.",
        "1: hookvisor: vcpus=:1:1: this '[' is never closed; a ']' is missing.",
        "1: hookvisor: Domain 'hello' wants 4096 MiB and the machine has 4087 MiB free; give the machine more memory or the domain less.",
        "1: hookvisor: There is no completion for 'tcsh'; the shells are bash, zsh, fish.",
        "1: hookvisor: Missing required argument 'shell'; see hookvisor completion --help.",
        "1: hookvisor: Option --plugin needs a file or the name of a package.",
      ]
    `);
  });

  test("configs", async () => {
    const configs = ["open", "quote", "word", "equals", "octal", "type", "action"].map((name) => [
      "run",
      at(`${name}.cfg`),
    ]);
    expect(await all([...configs, ["run", at("binary")], ["run", at("folder")]])).toMatchInlineSnapshot(`
      [
        "1: hookvisor: open.cfg:2:8: this '[' is never closed; a ']' is missing.",
        "1: hookvisor: quote.cfg:1:10: this string is never closed; a " is missing.",
        "1: hookvisor: word.cfg:1:10: expected a value (a string in quotes, a number, or a list in brackets), got 'lots'.",
        "1: hookvisor: equals.cfg:1:8: expected '=' after 'memory', got '64'.",
        "1: hookvisor: octal.cfg:1:10: '089' is no number (decimal, 0octal or 0xhex); put text in quotes.",
        "1: hookvisor: type.cfg:1:1: 'kernel' must be text in quotes, got 7.",
        "1: hookvisor: action.cfg:2:1: 'on_crash' must be one of destroy, restart, preserve, rename-restart (no core dumps yet), got "coredump-restart".",
        "1: hookvisor: binary is neither a kernel (no magic of ELF, bzImage or RISC-V Image) nor a text file in xl.cfg's syntax.",
        "1: hookvisor: folder is a folder; give a kernel or a config file.",
      ]
    `);
  });

  test("kernels", async () => {
    const kernels = ["missing.elf", "truncated.elf", "half.elf", "text.txt", "noxen.elf", "elf32.elf", "folder"];
    expect(await all(kernels.map((name) => ["run", "--kernel", at(name)]))).toMatchInlineSnapshot(`
      [
        "1: hookvisor: Kernel missing.elf: there is no such file.",
        "1: hookvisor: Kernel truncated.elf is truncated: its segment 0 ends at byte 8564 and the file at 200.",
        "1: hookvisor: Kernel half.elf is truncated: its segment 0 ends at byte 8564 and the file at 4532.",
        "1: hookvisor: Kernel text.txt is not an ELF file, and a kernel for a PV domain must be one.",
        "1: hookvisor: Kernel noxen.elf has neither Xen ELF notes nor a __xen_guest section: it was not built to run as a Xen PV domain.",
        "1: hookvisor: Kernel elf32.elf is an x86-64 image in a 32-bit or big-endian ELF file, which no PV kernel is.",
        "1: hookvisor: Kernel folder is a folder, and a file is wanted.",
      ]
    `);
  });

  test("ramdisks, disks, scripts, traces", async () => {
    expect(
      await all([
        ["run", "hello", "--ramdisk", at("missing.gz")],
        ["run", "hello", "--disk", "disk.img"],
        ["run", "hello", "--disk", `${at("missing.img")},raw,xvda,r`],
        ["run", "hello", "--disk", `${at("folder")},raw,xvda,r`],
        ["run", "hello", "--disk", `${at("empty.img")},raw,xvda,r`],
        ["run", "hello", "--disk", `${at("text.txt")},raw,xvda,r`],
        ["run", "hello", "--disk", `${at("sector.img")},raw,xvda,w`, "--disk", `${at("sector.img")},raw,xvdb,w`],
        ["run", "hello", "--disk", `${at("sector.img")},raw,xvda,r`, "--disk", `${at("sector.img")},raw,xvda,r`],
        ["run", "hello", "--input", at("missing.txt")],
        ["run", "hello", "--input", at("script.txt")],
        ["run", "hello", "--input", at("escape.txt")],
        ["run", "hello", "hello", "--input", at("script.txt")],
        ["run", "hello", "--trace", at("no/such/folder/trace")],
      ]),
    ).toMatchInlineSnapshot(`
      [
        "1: hookvisor: Ramdisk missing.gz: there is no such file.",
        "1: hookvisor: Disk 'disk.img': it names no virtual device; an example is disk.img,raw,xvda,w.",
        "1: hookvisor: File missing.img: there is no such file.",
        "1: hookvisor: File folder: it is a directory, and an image file is wanted.",
        "1: hookvisor: Disk empty.img has 0 bytes; an image holds at least one sector of 512.",
        "1: hookvisor: Disk text.txt has 18 bytes; an image holds at least one sector of 512.",
        "1: hookvisor: File sector.img: another device has it open for writing; attach it read-only to both, or use a copy.",
        "1: hookvisor: Domain 'hello' has two devices 'vbd' with the number 51712 (sector.img,raw,xvda,r); give one of them another name.",
        "1: hookvisor: Input script missing.txt: there is no such file.",
        "1: hookvisor: script.txt:2: expected 'expect TEXT' or 'send TEXT', got 'shout b'.",
        "1: hookvisor: escape.txt:1: '\\q' is no escape; there are \\n \\r \\t \\e \\\\ and \\xHH.",
        "1: hookvisor: script.txt:1: with several domains a line begins with the name of one, such as 'hello: expect a'.",
        "1: hookvisor: Trace no/such/folder/trace cannot be written: there is no such folder.",
      ]
    `);
  });

  test("plugins and config files", async () => {
    const good = 'import { definePlugin } from "hookvisor";\nexport default definePlugin(';
    put("no-apply.ts", 'export default { name: "no-apply", api: "^1.0.0" };\n');
    put("wrong-api.ts", `${good}{ name: "wrong-api", api: "^9.0.0", apply() {} });\n`);
    put(
      "taken.ts",
      `${good}{ name: "taken", api: "^1.0.0", apply(h) { h.hooks.scheduler.for("credit").tap("taken", () => null as never); } });\n`,
    );
    put("throws.mjs", 'throw new Error("no luck today");\n');
    put("syntax.ts", "export default {{{\n");
    put("imports.ts", 'import "./nowhere.ts";\nexport default 1;\n');
    put("empty.js", "\n");
    put("mine.ts", "export default 1;\n");
    put("syntax.config.ts", "export default {{{\n");
    put("unknown.config.json", '{ "plugin": ["x"] }');
    put("kind.config.yaml", "pcpus: many\n");
    put("broken.config.json", "{");
    put("package.config.json", '{ "plugins": ["hookvisor-plugin-that-is-not-there"] }');
    const files = [
      "missing.ts",
      "no-apply.ts",
      "wrong-api.ts",
      "taken.ts",
      "throws.mjs",
      "syntax.ts",
      "imports.ts",
      "empty.js",
      "folder",
    ];
    const configs = ["missing", "unknown", "kind", "broken"];
    const lines = [
      ...files.map((name) => ["--plugin", `./${name}`]),
      ["--plugin", "a-package-that-is-not-there"],
      ["--plugin", "mine"],
      ["--config", "./syntax.config.ts"],
      ["--config", "./package.config.json"],
    ];
    const texts: string[] = [];
    for (const line of lines) {
      const ran = await hookvisor(["list-plugins", ...line], { cwd: folder });
      expect(ran.stderr).not.toMatch(/\n {4}at |unexpected failure/);
      texts.push(`${ran.code}: ${clean(ran.stderr)}`);
    }
    expect(texts).toMatchInlineSnapshot(`
      [
        "1: hookvisor: Plugin ./missing.ts (from --plugin) is not found: there is no file ./missing.ts.",
        "1: hookvisor: Plugin 'no-apply' (./no-apply.ts): expected an apply(hypervisor) function, got nothing.",
        "1: hookvisor: Plugin 'wrong-api' (./wrong-api.ts) expects plugin API '^9.0.0', this hookvisor offers 1.0.0; use a version of the plugin that was written for it.",
        "1: hookvisor: Plugin 'taken' provides scheduler 'credit', which plugin 'scheduler-credit' already provides; remove one of the two or rename the key.",
        "1: hookvisor: Plugin ./throws.mjs cannot be loaded: no luck today.",
        "1: hookvisor: Plugin ./syntax.ts cannot be loaded: TransformError: syntax.ts:1:16: ERROR: Expected identifier but found "{".",
        "1: hookvisor: Plugin ./imports.ts cannot be loaded: Cannot find module './nowhere.ts'.",
        "1: hookvisor: Plugin ./empty.js: expected 'name' to be a lower-case name such as 'scheduler-mine', got nothing.",
        "1: hookvisor: Plugin ./folder (from --plugin) is not found: the folder ./folder has no plugin.ts, plugin.js, index.ts or index.js.",
        "1: hookvisor: Plugin a-package-that-is-not-there (from --plugin) is not found: no package of that name is installed here, and a file is given by its path, such as ./mine.ts.",
        "1: hookvisor: Plugin mine (from --plugin) is not found: no package of that name is installed here, perhaps ./mine.ts is meant.",
        "1: hookvisor: Config syntax.config.ts cannot be read: TransformError: syntax.config.ts:1:16: ERROR: Expected identifier but found "{".",
        "1: hookvisor: Plugin hookvisor-plugin-that-is-not-there (from package.config.json) is not found: no package of that name is installed there, and a file is given by its path, such as ./mine.ts.",
      ]
    `);
    expect(
      await all(
        configs.map((name) => ["list-plugins", "--config", at(`${name}.config.${name === "kind" ? "yaml" : "json"}`)]),
      ),
    ).toMatchInlineSnapshot(`
      [
        "1: hookvisor: Config missing.config.json: there is no such file.",
        "1: hookvisor: Config unknown.config.json: there is no key 'plugin'; the keys are ...",
        "1: hookvisor: Config kind.config.yaml: 'pcpus' must be a number.",
        "1: hookvisor: Config broken.config.json cannot be read: Expected property name or '}' in JSON at position 1 (line 1 column 2).",
      ]
    `);
  });

  test("device types and schedulers that break their contracts", async () => {
    const device = (body: string): string =>
      `const type = { type: "note", parse: (text) => text, deviceId: () => 0, create: () => ({ kind: "split", probe() {}, connect() {}, disconnect() {} }), ...${body} };
export default { name: "device-note", api: "^1.0.0", apply(h) { h.hooks.deviceType.for("note").tap("device-note", () => type); } };
`;
    put("no-create.mjs", device("{ create: undefined }"));
    put("no-connect.mjs", device('{ create: () => ({ kind: "split", probe() {} }) }'));
    put("no-number.mjs", device("{ deviceId: () => -1 }"));
    put(
      "no-luck.mjs",
      device(
        '{ create: () => ({ kind: "split", probe() { throw new Error("no luck"); }, connect() {}, disconnect() {} }) }',
      ),
    );
    put(
      "no-schedule.mjs",
      'export default { name: "scheduler-none", api: "^1.0.0", apply(h) { h.hooks.scheduler.for("none").tap("scheduler-none", () => ({})); } };\n',
    );
    const texts: string[] = [];
    for (const name of ["no-create", "no-connect", "no-number", "no-luck"]) {
      const ran = await hookvisor(["run", "hello", "--plugin", `./${name}.mjs`, "note=x"], { cwd: folder });
      texts.push(`${ran.code}: ${clean(ran.stderr)}`);
    }
    const ran = await hookvisor(["run", "hello", "--plugin", "./no-schedule.mjs", "--scheduler", "none"], {
      cwd: folder,
    });
    texts.push(`${ran.code}: ${clean(ran.stderr)}`);
    expect(texts).toMatchInlineSnapshot(`
      [
        "1: hookvisor: Plugin 'device-note': device type 'note' must have the method create.",
        "1: hookvisor: Plugin 'device-note': what create of device type 'note' returns must have the method connect.",
        "1: hookvisor: Plugin 'device-note': deviceId of device type 'note' must answer a whole number from 0, and answered -1.",
        "0: hookvisor: note 0 of hello (domain 1): no luck",
        "0: hookvisor: scheduler of plugin 'scheduler-none' is ejected: lacks insertUnit, removeUnit, wake, sleep, doSchedule",
      ]
    `);
  });

  test("an ejection says where the plugin threw and when; with HOOKVISOR_DEBUG the stack too", async () => {
    put(
      "throws.mjs",
      `export default { name: "scheduler-throws", api: "^1.0.0", apply(h) { h.hooks.scheduler.for("throws").tap("scheduler-throws", () => ({
  insertUnit() {}, removeUnit() {}, sleep() {},
  wake() {
    throw new Error("boom");
  },
  doSchedule: () => ({ unit: null, slice: null }),
})); } };\n`,
    );
    const args = ["run", "hello", "--plugin", "./throws.mjs", "--scheduler", "throws"];
    const plain = await hookvisor(args, { cwd: folder });
    expect(plain.code).toBe(0);
    expect(plain.stderr).toMatch(
      / is ejected: wake threw: boom at \S*\/throws\.mjs:4 \(virtual time \d+ ns\); fifo takes over\n/,
    );
    expect(plain.stderr).not.toMatch(/^ {4}at /m);
    const debug = await hookvisor(args, { cwd: folder, env: { HOOKVISOR_DEBUG: "1" } });
    expect(debug.stderr).toMatch(/hookvisor: Error: boom\n {4}at .*throws\.mjs:4:\d+\)?\n/);
  });

  test("with HOOKVISOR_DEBUG the stack is shown", async () => {
    const ran = await hookvisor(["run", "nothing-like-this"], { env: { HOOKVISOR_DEBUG: "1" } });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(/\n {4}at /);
  });
});
