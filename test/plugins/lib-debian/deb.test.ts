import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type DebEntry,
  DebianError,
  findInDeb,
  normalPath,
  unpackDeb,
  walkDeb,
} from "../../../plugins/lib-debian/index.ts";
import { type MadeEntry, makeAr, makeDeb, makeTar } from "./make-deb.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-deb-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function stored(bytes: Uint8Array): string {
  const path = join(folder, "made.deb");
  writeFileSync(path, bytes);
  return path;
}

async function unpacked(deb: string): Promise<Map<string, string>> {
  const contents = new Map<string, string>();
  await walkDeb(deb, (entry) => {
    if (entry.type !== "file") return null;
    contents.set(entry.path, "");
    return (chunk) => {
      contents.set(entry.path, contents.get(entry.path) + Buffer.from(chunk).toString("latin1"));
    };
  });
  return contents;
}

const LONG = `usr/${"long/".repeat(30)}file`;
const ENTRIES: MadeEntry[] = [
  { path: "./usr/", type: "5" },
  { path: "./usr/empty" },
  { path: "./usr/block", content: "b".repeat(512) },
  { path: "./usr/more", content: "m".repeat(100_001) },
  { path: LONG, content: "gnu", long: "gnu" },
  { path: `${LONG}2`, content: "pax", long: "pax" },
  { path: "some/prefix/name", content: "prefixed", long: "prefix" },
  { path: "./usr/lib/link", type: "2", link: "../more" },
  { path: "./usr/lib/absolute", type: "2", link: "/usr/block" },
  { path: "./usr/hard", type: "1", link: "./usr/block" },
  { path: "./usr/loop", type: "2", link: "loop" },
];

describe("a .deb", () => {
  for (const form of ["tar", "gz", "zst"] as const) {
    it(`is read when its content is packed as ${form}`, async () => {
      const contents = await unpacked(stored(makeDeb(ENTRIES, form)));
      expect([...contents.keys()]).toEqual([
        "usr/empty",
        "usr/block",
        "usr/more",
        LONG,
        `${LONG}2`,
        "some/prefix/name",
      ]);
      expect(contents.get("usr/more")).toBe("m".repeat(100_001));
      expect([contents.get(LONG), contents.get(`${LONG}2`), contents.get("some/prefix/name")]).toEqual([
        "gnu",
        "pax",
        "prefixed",
      ]);
    });
  }

  it("is read when its content is packed as xz", async () => {
    // `xz` of a tar archive with one file hello.txt ("hello, xz\n").
    const data = Buffer.from(readFileSync(join(import.meta.dirname, "hello.tar.xz.base64"), "utf8"), "base64");
    const deb = makeAr([
      ["debian-binary", Buffer.from("2.0\n")],
      ["data.tar.xz", data],
    ]);
    expect(await unpacked(stored(deb))).toEqual(new Map([["hello.txt", "hello, xz\n"]]));
  });

  it("answers the file that a path, a pattern or a link means", async () => {
    const deb = stored(makeDeb(ENTRIES));
    const found = async (pattern: string): Promise<DebEntry["path"] | undefined> =>
      (await findInDeb(deb, pattern))?.entry.path;
    expect(await found("/usr/more")).toBe("usr/more");
    expect(await found("usr/b*k")).toBe("usr/block");
    expect(await found("usr/*/link")).toBe("usr/more");
    expect(await found("usr/lib/absolute")).toBe("usr/block");
    expect(await found("usr/hard")).toBe("usr/block");
    expect(await found("usr/loop")).toBeUndefined();
    expect(await found("usr/b")).toBeUndefined();
    expect(await found("usr")).toBeUndefined();
  });

  it("unpacks below a prefix", async () => {
    const out = join(folder, "out");
    expect(await unpackDeb(stored(makeDeb(ENTRIES)), out, "/usr")).toBe(5);
    expect(readdirSync(out).sort()).toEqual(["block", "empty", "long", "more"]);
    expect(readFileSync(join(out, "more"), "latin1")).toHaveLength(100_001);
  });

  it("says what is wrong with a damaged package", async () => {
    const good = makeDeb(ENTRIES);
    const tar = makeTar([{ path: "a", content: "x" }]);
    const wrongSum = Buffer.from(tar);
    wrongSum[0] = 0x62;
    const withData = (name: string, data: Buffer): Buffer =>
      makeAr([
        ["debian-binary", Buffer.from("2.0\n")],
        [name, data],
      ]);
    const cases: [Buffer, RegExp][] = [
      [Buffer.from("no archive at all"), /not an ar archive/],
      [good.subarray(0, good.length - 40), /ends too early/],
      [makeAr([["other", Buffer.from("x")]]), /debian-binary/],
      [makeAr([["debian-binary", Buffer.from("2.0\n")]]), /no data\.tar/],
      [withData("data.tar.lzma", Buffer.from("x")), /packed in an unknown way/],
      [withData("data.tar.gz", Buffer.from("not gzip at all")), /does not decompress/],
      [withData("data.tar.xz", Buffer.from("not xz at all")), /does not decompress/],
      [withData("data.tar.zst", Buffer.from("not zstd at all")), /does not decompress/],
      [withData("data.tar", wrongSum), /checksum/],
      [withData("data.tar", tar.subarray(0, 600)), /too early/],
    ];
    for (const [bytes, message] of cases) await expect(unpacked(stored(bytes))).rejects.toThrow(message);
  });

  it("never fails otherwise than with a DebianError, whatever its bytes", async () => {
    const good = makeDeb(ENTRIES, "tar");
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 8 }), async (changes) => {
        const bytes = Buffer.from(good);
        for (const [at, value] of changes) bytes[at] = value;
        await unpacked(stored(bytes)).catch((error: unknown) => expect(error).toBeInstanceOf(DebianError));
      }),
      { numRuns: 60 },
    );
  });

  it("normalises paths and keeps them inside", () => {
    expect(normalPath("./a//b/../c/")).toBe("a/c");
    expect(normalPath("/../../etc/passwd")).toBe("etc/passwd");
  });
});
