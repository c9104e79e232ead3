/**
 * The catalogue: what each image is made of, as data. A new image is a new entry here.
 */
import type { DebianPackageRequest } from "../lib-debian/index.ts";

/** The ramdisk of an image. */
export interface RamdiskRecipe {
  /** Packages whose files go in. */
  readonly packages: readonly string[];
  /** With everything that these depend on. */
  readonly dependencies?: boolean;
  /** Modules that init loads, where the kernel has them as modules. */
  readonly modules: readonly string[];
  /** Modules that are there for modprobe and mount. */
  readonly moreModules: readonly string[];
  readonly hostname: string;
  readonly banner: string;
}

/** One image. */
export interface ImageRecipe {
  readonly name: string;
  readonly summary: string;
  readonly suite: string;
  readonly arch: string;
  /** The package of the kernel; with a metapackage the one meant is its dependency of this pattern. */
  readonly kernel: { readonly package: string; readonly dependency?: string };
  /** null: it boots without one. */
  readonly ramdisk: RamdiskRecipe | null;
  /** MiB. */
  readonly memory: number;
  /** The kernel's command line, to which a user's is appended. */
  readonly extra: string;
}

function debian(name: string, release: string, suite: string): ImageRecipe {
  return {
    name,
    summary: `Debian ${release}'s cloud kernel with a busybox shell on its console`,
    suite,
    arch: "amd64",
    kernel: { package: "linux-image-cloud-amd64", dependency: "linux-image-*-cloud-amd64" },
    ramdisk: {
      packages: ["busybox-static"],
      modules: ["xen-blkfront", "xen-netfront"],
      moreModules: [
        "vfat",
        "nls_cp437",
        "nls_ascii",
        "nls_utf8",
        "isofs",
        "xenfs",
        "xen-evtchn",
        "xen-gntdev",
        "xen-gntalloc",
      ],
      hostname: "debian",
      banner: `\nDebian ${release}'s Linux with busybox, in memory only. Disks are /dev/xvd*; poweroff ends the guest.\n`,
    },
    memory: 256,
    // The kernel's self-tests of its ciphers are half of its instructions until the shell.
    extra: "console=hvc0 cryptomgr.notests",
  };
}

const RISCV64: ImageRecipe = {
  name: "debian-riscv64",
  summary: "Debian 13's kernel for RISC-V with a busybox shell on its serial port",
  suite: "trixie",
  arch: "riscv64",
  kernel: { package: "linux-image-riscv64", dependency: "linux-image-*-riscv64" },
  ramdisk: {
    packages: ["busybox-static"],
    modules: ["virtio_mmio", "virtio_blk", "virtio_net"],
    moreModules: ["ext4", "vfat", "nls_cp437", "nls_ascii", "nls_utf8", "isofs"],
    hostname: "debian",
    banner:
      "\nDebian 13's Linux for RISC-V with busybox, in memory only. Disks are /dev/vd*; poweroff ends the guest.\n",
  },
  memory: 256,
  extra: "console=ttyS0 cryptomgr.notests",
};

/** The images that come with the project. */
export const CATALOGUE: readonly ImageRecipe[] = Object.freeze([
  debian("debian", "12", "bookworm"),
  debian("debian-13", "13", "trixie"),
  RISCV64,
  {
    name: "grub",
    summary: "GRUB as a kernel for Xen, at its prompt",
    suite: "bookworm",
    arch: "amd64",
    kernel: { package: "grub-xen-host" },
    ramdisk: null,
    memory: 128,
    extra: "",
  },
  {
    name: "u-boot-riscv64",
    summary: "U-Boot for RISC-V, at its prompt",
    suite: "trixie",
    arch: "riscv64",
    kernel: { package: "u-boot-qemu" },
    ramdisk: null,
    memory: 128,
    extra: "",
  },
]);

/** The package that an image's kernel comes from. */
export function kernelPackage({ suite, arch, kernel }: ImageRecipe): DebianPackageRequest {
  return { suite, arch, ...kernel };
}
