import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CpioTree, loadOrder, makeInitramfs, moduleInfo, moduleName } from "../../../plugins/lib-image/index.ts";
import { makeDeb } from "../lib-debian/make-deb.ts";
import { moduleOf } from "./make-image.ts";

interface Unpacked {
  readonly mode: string;
  readonly content: string;
  readonly device: string;
}

/** Reads a newc archive as Linux does. */
function unpack(archive: Uint8Array): Map<string, Unpacked> {
  const bytes = Buffer.from(archive);
  const found = new Map<string, Unpacked>();
  for (let at = 0; ; ) {
    expect(at % 4).toBe(0);
    expect(bytes.toString("latin1", at, at + 6)).toBe("070701");
    const field = (i: number): number => Number.parseInt(bytes.toString("latin1", at + 6 + i * 8, at + 14 + i * 8), 16);
    const nameEnd = at + 110 + field(11);
    const name = bytes.toString("utf8", at + 110, nameEnd - 1);
    const start = (nameEnd + 3) & ~3;
    const end = start + field(6);
    const mode = field(1).toString(8);
    const device = `${field(9)}:${field(10)}`;
    at = (end + 3) & ~3;
    if (name === "TRAILER!!!") {
      expect(at).toBe(bytes.length);
      return found;
    }
    expect(found.has(name)).toBe(false);
    const folder = name.slice(0, Math.max(0, name.lastIndexOf("/")));
    if (folder !== "") expect(found.get(folder)?.mode, `${name}: its folder comes first`).toMatch(/^4/);
    found.set(name, { mode, content: bytes.toString("utf8", start, end), device });
  }
}

describe("cpio", () => {
  it("holds files, folders, links and devices, folders before what is in them", () => {
    const tree = new CpioTree();
    tree.put("a/b/file", { type: "file", content: "five!", mode: 0o755 });
    tree.put("a.b", { type: "file", content: new Uint8Array(0) });
    tree.put("link", { type: "link", target: "a/b" });
    tree.put("null", { type: "device", kind: "character", major: 1, minor: 3 });
    expect(Object.fromEntries(unpack(tree.archive()))).toEqual({
      a: { mode: "40755", content: "", device: "0:0" },
      "a/b": { mode: "40755", content: "", device: "0:0" },
      "a/b/file": { mode: "100755", content: "five!", device: "0:0" },
      "a.b": { mode: "100644", content: "", device: "0:0" },
      link: { mode: "120777", content: "a/b", device: "0:0" },
      null: { mode: "20600", content: "", device: "1:3" },
    });
    expect(Buffer.from(tree.archive())).toEqual(Buffer.from(tree.archive()));
  });
});

describe("modules", () => {
  it("say what they depend on", () => {
    expect(moduleInfo(moduleOf("license=GPL", "depends=fat,nls-x", "alias=fs-vfat", "name=vfat"))).toEqual({
      depends: ["fat", "nls_x"],
      aliases: ["fs-vfat"],
    });
    expect(moduleInfo(moduleOf("depends="))).toEqual({ depends: [], aliases: [] });
    const module = moduleOf("depends=a");
    for (let length = 0; length < module.length; length++)
      expect(moduleInfo(module.subarray(0, length)).aliases).toEqual([]);
    expect(moduleName("kernel/drivers/block/xen-blkfront.ko.xz")).toBe("xen_blkfront");
  });

  it("are loaded after what they depend on, each once, also in a circle", async () => {
    const depends: Record<string, readonly string[]> = { a: ["b", "c"], b: ["d"], c: ["d"], d: [], e: ["f"], f: ["e"] };
    const info = async (name: string) => {
      const found = depends[name];
      return found === undefined ? null : { depends: found, aliases: [] };
    };
    expect(await loadOrder(["a", "built-in", "d", "e"], info)).toEqual(["d", "b", "c", "a", "f", "e"]);
  });
});

describe("initramfs", () => {
  let folder = "";
  const put = (name: string, bytes: Uint8Array): string => {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    return path;
  };
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "hookvisor-initramfs-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("is made of packages before and after the merge of /usr, modules and a few files", async () => {
    const modules = "./usr/lib/modules/6.1-x/kernel";
    const kernel = put(
      "kernel.deb",
      makeDeb([
        { path: "./boot/vmlinuz-6.1-x", content: "kernel" },
        { path: `${modules}/a/front-end.ko`, content: moduleOf("depends=back", "alias=xen:vbd") },
        { path: `${modules}/a/back.ko.gz`, content: gzipSync(moduleOf("depends=")) },
        { path: `${modules}/fs/more.ko`, content: moduleOf("depends=back") },
        { path: `${modules}/fs/unwanted.ko`, content: moduleOf("depends=") },
      ]),
    );
    const busybox = put(
      "busybox.deb",
      makeDeb([
        { path: "./bin/", type: "5" },
        { path: "./bin/busybox", content: "busybox" },
        { path: "./usr/share/doc/busybox/copyright", content: "long" },
      ]),
    );
    const library = put(
      "library.deb",
      makeDeb([
        { path: "./lib", type: "2", link: "usr/lib" },
        { path: "./usr/lib/x.so.1.2", content: "code" },
        { path: "./usr/lib/x.so.1", type: "2", link: "x.so.1.2" },
        { path: "./usr/bin/one", content: "tool" },
        { path: "./usr/bin/two", type: "1", link: "./usr/bin/one" },
      ]),
    );
    const options = {
      packages: [busybox, library],
      kernel,
      modules: ["front_end", "built-in"],
      moreModules: ["more"],
      hostname: "tester",
      banner: "hello\n",
      files: [{ path: "lib/own", content: "mine", mode: 0o700 }],
    };
    const archive = await makeInitramfs(options);
    const files = unpack(archive);
    const at = (path: string): string | undefined => files.get(path)?.content;
    expect(at("usr/bin/busybox")).toBe("busybox");
    expect(at("bin")).toBe("usr/bin");
    expect(at("lib")).toBe("usr/lib");
    expect(at("usr/lib/x.so.1")).toBe("x.so.1.2");
    expect(at("usr/bin/two")).toBe("tool");
    expect(files.get("usr/lib/own")).toEqual({ mode: "100700", content: "mine", device: "0:0" });
    expect(files.get("init")?.mode).toBe("100755");
    expect(files.get("dev/console")).toEqual({ mode: "20600", content: "", device: "5:1" });
    expect(at("etc/hostname")).toBe("tester\n");
    expect(at("etc/issue")).toBe("hello\n");
    expect(at("etc/modules")).toBe(
      "/usr/lib/modules/6.1-x/kernel/a/back.ko\n/usr/lib/modules/6.1-x/kernel/a/front-end.ko\n",
    );
    expect(at("usr/lib/modules/6.1-x/modules.dep")).toBe(
      "kernel/a/back.ko:\nkernel/a/front-end.ko: kernel/a/back.ko\nkernel/fs/more.ko: kernel/a/back.ko\n",
    );
    expect(at("usr/lib/modules/6.1-x/modules.alias")).toBe("alias xen:vbd front_end\n");
    expect([...files.keys()].filter((path) => /unwanted|copyright|\.gz$/.test(path))).toEqual([]);
    expect(Buffer.from(await makeInitramfs(options)).equals(archive)).toBe(true);
  });

  it("wants a busybox, unless its init is another", async () => {
    const empty = put("empty.deb", makeDeb([{ path: "./etc/x", content: "" }]));
    await expect(makeInitramfs({ packages: [empty] })).rejects.toThrow(/has a busybox/);
    const own = unpack(await makeInitramfs({ packages: [empty], init: "#!/bin/own\n" }));
    expect(own.get("init")?.content).toBe("#!/bin/own\n");
    expect(own.get("etc/x")?.mode).toBe("100644");
  });
});
