/**
 * Images that are ready to boot, in `CACHE/images/NAME/`: their files, each named after its content, and `record.json` with size and SHA-256 of
 * each, what they were made of and by which recipe.
 *
 * Design: the record appears last and by rename, after its files, which appear by rename too: an image is whole or not there.
 * Invariants: files are checked against the record each time they are handed out; what differs is removed and never used; one process
 * writes at a time (a lock file that names it).
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { lock } from "../lib-debian/index.ts";

const content = z.object({ name: z.string(), size: z.number(), sha256: z.string() });
const part = z.object({ name: z.string(), sha256: z.string() });
const recordSchema = z.object({
  format: z.literal(1),
  /** Digest of the recipe. */
  recipe: z.string(),
  /** Of the kernel's package. */
  version: z.string(),
  kernel: content,
  ramdisk: content.nullable(),
  /** Packages that it was made of. */
  packages: z.array(part),
  /** "apt", or "files": packages that a user gave. */
  origin: z.enum(["apt", "files"]),
});

/** What is recorded of an image. */
export type ImageRecord = z.infer<typeof recordSchema>;

/** An image's files, verified. */
export interface ReadyImage {
  readonly record: ImageRecord;
  readonly kernel: string;
  readonly ramdisk: string | null;
}

/** An image to be stored. */
export interface NewImage extends Pick<ImageRecord, "recipe" | "version" | "packages" | "origin"> {
  readonly kernel: { readonly name: string; readonly bytes: Uint8Array };
  readonly ramdisk: { readonly name: string; readonly bytes: Uint8Array } | null;
}

export class ImageStore {
  readonly #folder: string;

  /** @param cache the folder that everything fetched is kept in */
  constructor(cache: string) {
    this.#folder = join(cache, "images");
  }

  /** Does `work` while no other process writes images. */
  async locked<T>(work: () => Promise<T>): Promise<T> {
    const unlock = await lock(join(this.#folder, "lock"));
    try {
      return await work();
    } finally {
      await unlock();
    }
  }

  /** What is recorded of an image, unverified; null: nothing. */
  async record(image: string): Promise<ImageRecord | null> {
    try {
      const parsed = recordSchema.safeParse(JSON.parse(await readFile(this.#path(image, "record.json"), "utf8")));
      return parsed.success ? parsed.data : null;
    } catch {
      return null;
    }
  }

  /** An image whose files are whole and were made by `recipe`; null: there is none. */
  async open(image: string, recipe: string): Promise<ReadyImage | null> {
    const record = await this.record(image);
    if (record === null || record.recipe !== recipe) return null;
    for (const file of [record.kernel, record.ramdisk])
      if (file !== null && !(await matches(this.#path(image, fileName(file)), file))) return null;
    return this.#ready(image, record);
  }

  /** Stores an image in place of the one before; call it locked. */
  async put(image: string, made: NewImage): Promise<ReadyImage> {
    const { recipe, version, packages, origin } = made;
    await mkdir(this.#path(image), { recursive: true });
    const store = async ({ name, bytes }: { name: string; bytes: Uint8Array }) => {
      const file = { name, size: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
      await this.#write(this.#path(image, fileName(file)), bytes);
      return file;
    };
    const kernel = await store(made.kernel);
    const ramdisk = made.ramdisk === null ? null : await store(made.ramdisk);
    const record: ImageRecord = { format: 1, recipe, version, kernel, ramdisk, packages, origin };
    await this.#write(this.#path(image, "record.json"), Buffer.from(`${JSON.stringify(record, null, 2)}\n`));
    const kept = new Set(["record.json", fileName(kernel), ...(ramdisk === null ? [] : [fileName(ramdisk)])]);
    for (const name of await readdir(this.#path(image)))
      if (!kept.has(name)) await rm(this.#path(image, name), { force: true });
    return this.#ready(image, record);
  }

  /** Removes an image; call it locked. False: there was nothing. */
  async remove(image: string): Promise<boolean> {
    const there = await stat(this.#path(image)).then(
      () => true,
      () => false,
    );
    await rm(this.#path(image), { recursive: true, force: true });
    return there;
  }

  #ready(image: string, record: ImageRecord): ReadyImage {
    const path = (file: z.infer<typeof content>): string => this.#path(image, fileName(file));
    return { record, kernel: path(record.kernel), ramdisk: record.ramdisk === null ? null : path(record.ramdisk) };
  }

  #path(image: string, file = ""): string {
    return join(this.#folder, image, file);
  }

  /** Writes a file that is whole or not there, even if the power fails. */
  async #write(path: string, bytes: Uint8Array): Promise<void> {
    const temporary = `${path}.${process.pid}.new`;
    const file = await open(temporary, "w");
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  }
}

/** `vmlinuz-6.1.0-40-cloud-amd64.1a2b3c4d5e6f`: for people by its name, for the cache by its content. */
function fileName(file: { readonly name: string; readonly sha256: string }): string {
  return `${file.name.replace(/[^\w.+-]/g, "_")}.${file.sha256.slice(0, 12)}`;
}

async function matches(path: string, file: { readonly size: number; readonly sha256: string }): Promise<boolean> {
  try {
    if ((await stat(path)).size !== file.size) return false;
    const hash = createHash("sha256");
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>)
      hash.update(chunk);
    return hash.digest("hex") === file.sha256;
  } catch {
    return false;
  }
}
