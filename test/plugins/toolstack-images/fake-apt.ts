/**
 * Stand-ins for APT's programs: shell scripts in a folder that goes in front of PATH. They serve the packages of a folder, and note what they were
 * asked for; a file `broken` makes a download stop half way, `slow` makes it hang there.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeDeb } from "../lib-debian/make-deb.ts";
import { bzImageOf, elfLike, moduleOf, payloadOfKernel } from "../lib-image/make-image.ts";

const APT_GET = `#!/bin/sh
case "$*" in
*update*) [ -e "$FAKE/offline" ] && { echo "E: no route to host" >&2; exit 100; }; exit 0 ;;
*download*)
  for name; do :; done
  echo "$name" >>"$FAKE/log"
  size=$(wc -c <"$FAKE/$name.deb")
  if [ -e "$FAKE/broken" ]; then head -c $((size / 2)) "$FAKE/$name.deb" >"./$name.deb"; echo "E: connection reset" >&2; exit 100; fi
  if [ -e "$FAKE/slow" ]; then head -c $((size / 2)) "$FAKE/$name.deb" >"./$name.deb"; touch "$FAKE/waiting"; exec sleep 60; fi
  cp "$FAKE/$name.deb" "./\${name}_$(cat "$FAKE/version")_amd64.deb" ;;
esac
`;

const APT_CACHE = `#!/bin/sh
for name; do :; done
[ -e "$FAKE/$name.depends" ] && { echo "Package: $name"; echo "Depends: $(cat "$FAKE/$name.depends")"; exit 0; }
[ -e "$FAKE/$name.deb" ] && { echo "Package: $name"; echo "Size: $(wc -c <"$FAKE/$name.deb")"; exit 0; }
exit 100
`;

/** The metapackage's dependency. */
export const KERNEL = "linux-image-6.1.0-9-cloud-amd64";

export class FakeApt {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
    mkdirSync(join(folder, "bin"), { recursive: true });
    for (const [name, script] of [
      ["apt-get", APT_GET],
      ["apt-cache", APT_CACHE],
      ["apt-config", "#!/bin/sh\n"],
    ] as const) {
      writeFileSync(join(folder, "bin", name), script);
      chmodSync(join(folder, "bin", name), 0o755);
    }
    this.serve("1.0");
  }

  /** Environment of processes that find this APT. */
  get env(): Record<string, string> {
    return {
      PATH: `${join(this.folder, "bin")}:${process.env["PATH"] ?? ""}`,
      FAKE: this.folder,
      HOOKVISOR_DEBIAN_MIRROR: "http://mirror.invalid/debian",
    };
  }

  /** Packages of a version. */
  serve(version: string): void {
    const kernel = bzImageOf(payloadOfKernel(elfLike(50_000), "zstd"));
    const module = moduleOf("depends=");
    this.put("version", version);
    this.put("linux-image-cloud-amd64.depends", `${KERNEL} (= ${version})`);
    this.put(
      `${KERNEL}.deb`,
      makeDeb([
        { path: `./boot/vmlinuz-${version}`, content: kernel },
        { path: `./lib/modules/${version}/kernel/xen-blkfront.ko`, content: module },
      ]),
    );
    this.put("busybox-static.deb", makeDeb([{ path: "./bin/busybox", content: `busybox ${version}` }]));
    this.put("grub-xen-host.deb", makeDeb([{ path: "./usr/lib/grub-xen/grub-x86_64-xen.bin", content: elfLike() }]));
  }

  put(name: string, content: string | Uint8Array): void {
    writeFileSync(join(this.folder, name), content);
  }

  remove(name: string): void {
    rmSync(join(this.folder, name), { force: true });
  }

  has(name: string): boolean {
    return existsSync(join(this.folder, name));
  }

  /** Names of the packages that were downloaded since the last time this was asked. */
  downloads(): string[] {
    if (!this.has("log")) return [];
    const names = readFileSync(join(this.folder, "log"), "utf8").trim().split("\n");
    this.remove("log");
    return names;
  }
}
