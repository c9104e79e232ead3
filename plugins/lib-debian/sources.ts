/**
 * APT's sources: the parser of both forms (one-line `sources.list` and deb822 `*.sources`, see sources.list(5)), and the
 * choice of the mirror and key that this machine already trusts for Debian.
 *
 * Invariants: parsing never throws (a stanza that makes no sense is left out, as APT would refuse it);
 * a disabled or source-only entry is never chosen; the mirror's key is the machine's own, never a default that is weaker.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** One `deb` entry: every URI with every suite. */
export interface AptSource {
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
  /** Value of Signed-By: key files or fingerprints separated by blanks, or a whole armoured key; null: APT's own keys. */
  readonly signedBy: string | null;
}

/** The mirror to use, and the key its releases are signed by. */
export interface DebianMirror {
  readonly uri: string;
  readonly signedBy: string | null;
}

/** Suites that only Debian's main archive has (not its security archive, nor a derivative's). */
const DEBIAN_SUITES: ReadonlySet<string> = new Set([
  "buster",
  "bullseye",
  "bookworm",
  "trixie",
  "forky",
  "sid",
  "oldoldstable",
  "oldstable",
  "stable",
  "testing",
  "unstable",
]);

const words = (text: string): string[] => text.split(/\s+/).filter((word) => word !== "");

/** Parses a one-line `sources.list`; `deb-src` lines, comments and what makes no sense are left out. */
export function parseOneLineSources(text: string): AptSource[] {
  const found: AptSource[] = [];
  for (const raw of text.split("\n")) {
    const line = raw.replace(/#.*$/, "").trim();
    const match = /^deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*(.*)$/.exec(line);
    if (match === null) continue;
    let signedBy: string | null = null;
    for (const option of words(match[1] ?? "")) {
      const at = option.indexOf("=");
      if (option.slice(0, at).toLowerCase() === "signed-by") signedBy = option.slice(at + 1).replaceAll(",", " ");
    }
    found.push({ uris: [match[2] ?? ""], suites: [match[3] ?? ""], components: words(match[4] ?? ""), signedBy });
  }
  return found;
}

/** Splits one deb822 stanza into fields, names in lower case, continuation lines joined by newlines. */
function stanzaFields(stanza: readonly string[]): Map<string, string> {
  const fields = new Map<string, string>();
  let last: string | null = null;
  for (const line of stanza) {
    if (/^[ \t]/.test(line)) {
      if (last !== null) fields.set(last, `${fields.get(last) ?? ""}\n${line.trim()}`);
      continue;
    }
    const at = line.indexOf(":");
    if (at <= 0) continue;
    last = line.slice(0, at).trim().toLowerCase();
    fields.set(last, line.slice(at + 1).trim());
  }
  return fields;
}

/** Parses a deb822 `*.sources` file; stanzas that are disabled, source-only or incomplete are left out. */
export function parseDeb822Sources(text: string): AptSource[] {
  const stanzas: string[][] = [[]];
  for (const raw of text.split("\n")) {
    const line = raw.replace(/\r$/, "");
    if (line.startsWith("#")) continue;
    if (line.trim() === "") stanzas.push([]);
    else stanzas.at(-1)?.push(line);
  }
  const found: AptSource[] = [];
  for (const stanza of stanzas) {
    const fields = stanzaFields(stanza);
    if (/^(no|false|0|off|without|disable)$/i.test(fields.get("enabled") ?? "yes")) continue;
    if (!words(fields.get("types") ?? "").includes("deb")) continue;
    const uris = words(fields.get("uris") ?? "");
    const suites = words(fields.get("suites") ?? "");
    if (uris.length === 0 || suites.length === 0) continue;
    const key = fields.get("signed-by")?.trim() ?? "";
    found.push({ uris, suites, components: words(fields.get("components") ?? ""), signedBy: key === "" ? null : key });
  }
  return found;
}

/**
 * Reads the sources that APT on this machine reads: `sources.list`, then `sources.list.d/*.list` and `*.sources` in
 * order of their names. Files that cannot be read count as empty.
 * @param etcApt APT's configuration folder
 */
export function readMachineSources(etcApt = "/etc/apt"): AptSource[] {
  const text = (path: string): string => {
    try {
      return readFileSync(path, "utf8");
    } catch {
      return "";
    }
  };
  let parts: string[] = [];
  try {
    parts = readdirSync(join(etcApt, "sources.list.d")).sort();
  } catch {
    // No such folder: the one-line file alone.
  }
  const found = parseOneLineSources(text(join(etcApt, "sources.list")));
  for (const part of parts) {
    const path = join(etcApt, "sources.list.d", part);
    if (part.endsWith(".list")) found.push(...parseOneLineSources(text(path)));
    else if (part.endsWith(".sources")) found.push(...parseDeb822Sources(text(path)));
  }
  return found;
}

/** The first entry that is Debian's main archive, or null: a machine of another distribution has none. */
export function pickMirror(sources: readonly AptSource[]): DebianMirror | null {
  for (const source of sources) {
    const uri = source.uris[0];
    if (uri === undefined || !source.components.includes("main")) continue;
    if (source.suites.some((suite) => DEBIAN_SUITES.has(suite))) return { uri, signedBy: source.signedBy };
  }
  return null;
}
