/** Images that come with the project: its own teaching guests, each by the name of its file. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** Path of each image below the project's folder, by name. */
export function ownImages(root: string): ReadonlyMap<string, string> {
  const folder = join(root, "test", "guests", "images");
  const images = new Map<string, string>();
  if (!existsSync(folder)) return images;
  for (const file of readdirSync(folder).sort())
    if (file.endsWith(".elf")) images.set(file.slice(0, -4), join(folder, file));
  return images;
}
