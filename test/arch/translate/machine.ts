/** A toy machine for the tests: 256 frames, a page table in frame 1, virtual page n at frame n + 16. */
import { Engine, type EngineOptions, type TranslateArch, type TranslatedVcpu } from "../../../arch/translate/index.ts";
import { reg, toyArch, toyLayout } from "./toy.ts";

export const FRAMES = 256;
export const PAGES = 64;
export const READ = 1;
export const WRITE = 2;
export const EXEC = 4;
export const SPECIAL = 8;

export class ToyMachine {
  readonly memory = new WebAssembly.Memory({ initial: FRAMES / 16, maximum: FRAMES / 16 });
  readonly engine: Engine;
  readonly vcpu: TranslatedVcpu;
  readonly view = new DataView(this.memory.buffer);

  constructor(arch: Partial<TranslateArch> = {}, options: Partial<EngineOptions> = {}) {
    this.engine = new Engine({
      memory: this.memory,
      frames: FRAMES,
      arch: toyArch(arch),
      codeBytes: 1 << 18,
      vcpus: 3,
      ...options,
    });
    this.vcpu = this.addVcpu();
    for (let page = 0; page < PAGES; page++) this.map(page, page + 16, READ | WRITE | EXEC);
  }

  addVcpu(): TranslatedVcpu {
    const vcpu = this.engine.createVcpu();
    vcpu.set(toyLayout.at.root, 1);
    vcpu.set(toyLayout.at.pages, PAGES);
    return vcpu;
  }

  map(page: number, frame: number, bits: number): void {
    this.view.setUint32(4096 + page * 8, (frame << 12) | bits, true);
    this.view.setUint32(4096 + page * 8 + 4, 0, true);
  }

  /** Puts bytes at a virtual address (under the first mapping: page n is frame n + 16). */
  put(va: number, ...instructions: readonly number[][]): void {
    this.engine.physical.set(instructions.flat(), va + 16 * 4096);
  }

  pc(vcpu = this.vcpu): number {
    return vcpu.get(toyLayout.at.pc);
  }
  setPc(pc: number, vcpu = this.vcpu): void {
    vcpu.set64(toyLayout.at.pc, pc, 0);
  }
  r(i: number, vcpu = this.vcpu): number {
    return vcpu.get(reg(i));
  }
  set(i: number, lo: number, hi = 0, vcpu = this.vcpu): void {
    vcpu.set64(reg(i), lo, hi);
  }
  detail(vcpu = this.vcpu): number {
    return vcpu.get(toyLayout.at.exitDetail);
  }
}
