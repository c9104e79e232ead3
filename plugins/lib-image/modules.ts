/**
 * Kernel modules and what they depend on, read from the modules themselves: Debian's packages come without modules.dep, which depmod writes
 * when they are installed.
 *
 * Facts: a module is an ELF64 relocatable file whose section .modinfo holds `key=value` strings; `depends=` lists modules by name, in which
 * `-` and `_` are the same; `alias=` are patterns that it answers to.
 * Invariant: an ELF file that makes no sense has no information, never an exception.
 */

/** What a module says of itself. */
export interface ModuleInfo {
  readonly depends: readonly string[];
  readonly aliases: readonly string[];
}

/** A module's name as the kernel has it, of a path or a name in any form: xen_blkfront of kernel/drivers/block/xen-blkfront.ko.xz. */
export function moduleName(path: string): string {
  return path
    .slice(path.lastIndexOf("/") + 1)
    .replace(/\.ko(\.(gz|xz|zst))?$/, "")
    .replaceAll("-", "_");
}

/** The section .modinfo of an ELF64 file; empty where there is none. */
function modinfoSection(module: Uint8Array): Uint8Array {
  const none = new Uint8Array(0);
  try {
    const view = new DataView(module.buffer, module.byteOffset, module.byteLength);
    if (view.getUint32(0, false) !== 0x7f454c46 || module[4] !== 2) return none;
    const little = module[5] === 1;
    const table = Number(view.getBigUint64(0x28, little));
    const size = view.getUint16(0x3a, little);
    const count = view.getUint16(0x3c, little);
    const header = (i: number) => {
      const at = table + i * size;
      return {
        name: view.getUint32(at, little),
        offset: Number(view.getBigUint64(at + 0x18, little)),
        size: Number(view.getBigUint64(at + 0x20, little)),
      };
    };
    const names = header(view.getUint16(0x3e, little));
    const wanted = Buffer.from(".modinfo\0");
    for (let i = 0; i < count; i++) {
      const section = header(i);
      const at = names.offset + section.name;
      if (wanted.equals(module.subarray(at, at + wanted.length)))
        return module.subarray(section.offset, section.offset + section.size);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return none;
}

/** What a module (unpacked) says of itself. */
export function moduleInfo(module: Uint8Array): ModuleInfo {
  const aliases: string[] = [];
  let depends: string[] = [];
  for (const field of Buffer.from(modinfoSection(module)).toString("latin1").split("\0")) {
    if (field.startsWith("depends="))
      depends = field
        .slice(8)
        .split(",")
        .filter((name) => name !== "")
        .map(moduleName);
    else if (field.startsWith("alias=")) aliases.push(field.slice(6));
  }
  return { depends, aliases };
}

/**
 * The modules of `wanted` with all they depend on, in an order in which they can be loaded.
 * @param wanted names, in any form
 * @param info of a module by its name; null: there is none (it is built in, or missing)
 */
export async function loadOrder(
  wanted: readonly string[],
  info: (name: string) => Promise<ModuleInfo | null>,
): Promise<readonly string[]> {
  const order: string[] = [];
  const seen = new Set<string>();
  const visit = async (name: string): Promise<void> => {
    if (seen.has(name)) return;
    seen.add(name);
    const found = await info(name);
    if (found === null) return;
    for (const dependency of found.depends) await visit(dependency);
    order.push(name);
  };
  for (const name of wanted) await visit(moduleName(name));
  return order;
}
