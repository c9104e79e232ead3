/**
 * Guests out of Debian's packages, by name: `hookvisor run debian`, and the command `hookvisor images`.
 *
 * Design: recipes are data (catalogue.ts); packages come through lib-debian's private APT state, kernels and ramdisks through lib-image;
 * what is ready to boot lies in a store that checks it each time (store.ts).
 */
import { ConfigError, definePlugin } from "hookvisor";
import { defaultCacheDir } from "../lib-debian/index.ts";
import { readyImage } from "./build.ts";
import { CATALOGUE } from "./catalogue.ts";
import { imagesCommand } from "./command.ts";
import { Progress } from "./progress.ts";
import { ImageStore } from "./store.ts";

const NAME = "toolstack-images";

/** What one of two values is; a sentence otherwise. */
function formatOption(value: unknown): "table" | "json" {
  if (value === "table" || value === "json") return value;
  throw new ConfigError(`Option --format: it must be table or json, got '${String(value)}'.`);
}

export default definePlugin({
  name: NAME,
  api: "^1.0.0",
  requires: ["toolstack-cli"],
  description: "guests out of Debian's packages, and the command images",
  apply(hypervisor) {
    const toolstack = hypervisor.hooksOf("toolstack");
    if (toolstack === undefined) return;
    const recipes = new Map(CATALOGUE.map((recipe) => [recipe.name, recipe]));
    for (const recipe of CATALOGUE) {
      toolstack.image.for(recipe.name).tap(NAME, () => ({
        summary: recipe.summary,
        settings: async ({ streams, quiet }) => {
          const store = new ImageStore(defaultCacheDir());
          const progress = new Progress(streams.stderr, quiet);
          const image = await readyImage(recipe, { store, progress, fetch: {} });
          return {
            kernel: image.kernel,
            memory: recipe.memory,
            ...(recipe.extra === "" ? {} : { extra: recipe.extra }),
            // A Linux has a network device unless the user says something else of them (`vif=[]`: none).
            ...(image.ramdisk === null ? {} : { ramdisk: image.ramdisk, vif: [""] }),
          };
        },
      }));
    }
    toolstack.command.for("images").tap(NAME, () => ({
      summary: "list, fetch and remove the images that can be run by their names",
      declare: (command) => {
        command
          .argument("[ACTION]", "list (default), pull, rm")
          .argument("[NAME...]", "images")
          .option("-f, --format <format>", "of the list: table or json", "table")
          .option("--deb <file...>", "packages to make the image of, instead of fetching them")
          .option("--refresh", "fetch the newest packages, even if the image is there")
          .option("-q, --quiet", "print nothing but errors and the list")
          .addHelpText(
            "after",
            "\nExamples:\n  hookvisor images\n  hookvisor images pull debian\n  hookvisor images pull debian --deb linux-image-*-cloud-amd64_*.deb busybox-static_*.deb\n  hookvisor images rm debian",
          );
      },
      run: ({ streams, args, options }) => {
        const deb = options["deb"];
        return imagesCommand(
          {
            toolstack,
            recipes,
            store: new ImageStore(defaultCacheDir()),
            fetch: {},
            stdout: streams.stdout,
            stderr: streams.stderr,
          },
          args,
          {
            format: formatOption(options["format"]),
            deb: Array.isArray(deb) ? deb.map(String) : [],
            refresh: options["refresh"] === true,
            quiet: options["quiet"] === true,
          },
        );
      },
    }));
  },
});
