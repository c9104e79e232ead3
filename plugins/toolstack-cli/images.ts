/** Images that come with the project: its own teaching guests, each by the name of its file. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** What each teaches, in a few words; of a guest that is not here only the name is known. */
const SUMMARIES: Readonly<Record<string, string>> = {
  hello: "console_io, start_info, shutdown",
  clock: "wall clock, vCPU time, a timer",
  events: "event channels, the console ring",
  xenstore: "XenStore: values, watches, a transaction",
  "grant-offer": "grants a page to grant-map",
  "grant-map": "maps the page of grant-offer",
  blk: "a block frontend",
  "disk-log": "flushes and barriers on a disk",
  smp: "a second vCPU, IPIs",
  busy: "nothing but the CPU",
  "hostile-mm": "attacks by page tables and pointers",
  "hostile-evt-gnt": "attacks by ports and grants",
  "hostile-rings": "attacks by rings and messages",
};

/** What to say of an image of the project. */
export function summaryOf(name: string): string {
  const base = name.replace(/-2007$/, "");
  const what = Object.hasOwn(SUMMARIES, base) ? `teaching guest: ${SUMMARIES[base]!}` : "a teaching guest";
  return base === name ? what : `${what} (as in 2007)`;
}

/** Path of each image below the project's folder, by name. */
export function ownImages(root: string): ReadonlyMap<string, string> {
  const folder = join(root, "test", "guests", "images");
  const images = new Map<string, string>();
  if (!existsSync(folder)) return images;
  for (const file of readdirSync(folder).sort())
    if (file.endsWith(".elf")) images.set(file.slice(0, -4), join(folder, file));
  return images;
}
