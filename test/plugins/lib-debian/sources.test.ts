import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import {
  machineMirror,
  parseDeb822Sources,
  parseOneLineSources,
  pickMirror,
} from "../../../plugins/lib-debian/index.ts";

const DEB822 = `Types: deb
# a comment inside a stanza
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
`;

describe("APT's sources", () => {
  it("reads deb822 stanzas, with comments inside them", () => {
    expect(parseDeb822Sources(DEB822)).toEqual([
      {
        uris: ["http://mirror.example/debian"],
        suites: ["bookworm", "bookworm-updates"],
        components: ["main"],
        signedBy: "/usr/share/keyrings/debian-archive-keyring.gpg",
      },
      {
        uris: ["http://mirror.example/debian-security"],
        suites: ["bookworm-security"],
        components: ["main"],
        signedBy: null,
      },
    ]);
  });

  it("leaves out what is disabled, source-only or incomplete, and keeps an armoured key whole", () => {
    const text = [
      "Types: deb\nURIs: http://a\nSuites: sid\nComponents: main\nEnabled: no",
      "Types: deb-src\nURIs: http://b\nSuites: sid\nComponents: main",
      "Types: deb\nSuites: sid",
      "types: deb deb-src\nuris: http://c http://d\nsuites: sid\ncomponents: main\nsigned-by:\n -----BEGIN\n .\n abc\n -----END",
    ].join("\n\n");
    expect(parseDeb822Sources(text)).toEqual([
      {
        uris: ["http://c", "http://d"],
        suites: ["sid"],
        components: ["main"],
        signedBy: "-----BEGIN\n.\nabc\n-----END",
      },
    ]);
  });

  it("reads one-line entries with and without options", () => {
    const text = `# deb http://commented bookworm main
deb http://mirror.example/debian bookworm main contrib # why not
deb-src http://mirror.example/debian bookworm main
deb [ arch=amd64 signed-by=/k1.gpg,/k2.gpg ] http://other.example/ trixie main
nonsense
deb http://short`;
    expect(parseOneLineSources(text)).toEqual([
      {
        uris: ["http://mirror.example/debian"],
        suites: ["bookworm"],
        components: ["main", "contrib"],
        signedBy: null,
      },
      { uris: ["http://other.example/"], suites: ["trixie"], components: ["main"], signedBy: "/k1.gpg /k2.gpg" },
    ]);
  });

  it("chooses Debian's main archive only", () => {
    expect(pickMirror(parseDeb822Sources(DEB822))?.uri).toBe("http://mirror.example/debian");
    expect(pickMirror(parseOneLineSources("deb http://a/debian-security bookworm-security main"))).toBeNull();
    expect(pickMirror(parseOneLineSources("deb http://a/ubuntu noble main"))).toBeNull();
    expect(pickMirror(parseOneLineSources("deb http://a/other stable contrib"))).toBeNull();
  });

  describe("of a machine", () => {
    const folders: string[] = [];
    afterEach(() => {
      for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
    });

    it("come from sources.list first, then from sources.list.d in order of names", () => {
      const etc = mkdtempSync(join(tmpdir(), "hookvisor-etc-"));
      folders.push(etc);
      expect(() => machineMirror({ etcApt: etc })).toThrow(/No Debian mirror is among this machine's APT sources/);
      mkdirSync(join(etc, "sources.list.d"));
      writeFileSync(join(etc, "sources.list.d", "b.list"), "deb http://b/ sid main\n");
      writeFileSync(
        join(etc, "sources.list.d", "a.sources"),
        "Types: deb\nURIs: http://a/\nSuites: sid\nComponents: main\n",
      );
      writeFileSync(join(etc, "sources.list.d", "0.disabled"), "deb http://0/ sid main\n");
      expect(machineMirror({ etcApt: etc }).uri).toBe("http://a/");
      writeFileSync(join(etc, "sources.list"), "deb http://first/ sid main\n");
      expect(machineMirror({ etcApt: etc }).uri).toBe("http://first/");
      expect(machineMirror({ etcApt: etc, mirror: "http://mine/debian" }).uri).toBe("http://mine/debian");
      expect(() => machineMirror({ etcApt: etc, mirror: "mine" })).toThrow(/Not the address of a mirror/);
    });
  });
});
