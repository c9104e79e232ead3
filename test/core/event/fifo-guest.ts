/**
 * A guest's side of the FIFO ABI, as a careful kernel does it: registers a control block a vCPU and the event array, takes events
 * off the lists in order of priority, masks and unmasks.
 *
 * Design: written from public/event_channel.h and from what Linux' driver is seen to do; shares nothing with the implementation.
 */
import { __HYPERVISOR, EVTCHNOP, evtchn_expand_array, evtchn_init_control } from "../../../core/abi/index.ts";
import { FRAME_SIZE } from "../../../core/machine/frames.ts";
import type { Guest } from "../../support/fake-arch.ts";

const PENDING = 0x8000_0000;
const MASKED = 0x4000_0000;
const LINKED = 0x2000_0000;
const LINK = 0x1_ffff;
/** Page of the hypercalls' structures. */
const SCRATCH = FRAME_SIZE;

/** An event that was taken. */
export interface Taken {
  readonly port: number;
  readonly vcpu: number;
  readonly priority: number;
}

export class FifoGuest {
  readonly guest: Guest;
  /** Pages of its address space that hold the array and the control blocks. */
  readonly array: number[] = [];
  readonly controls: { page: number; offset: number }[] = [];
  /** The consumer's own idea of each list's head, 0: read it from the control block. */
  readonly #heads: number[][] = [];
  readonly #ready: number[] = [];

  constructor(guest: Guest) {
    this.guest = guest;
  }

  get #little(): boolean {
    return this.guest.abi.endian === "little";
  }
  read(page: number, offset: number): number {
    return this.guest.peek(page * FRAME_SIZE + offset, 4).getUint32(0, this.#little);
  }
  write(page: number, offset: number, value: number): void {
    const view = new DataView(new ArrayBuffer(4));
    view.setUint32(0, value, this.#little);
    this.guest.poke(page * FRAME_SIZE + offset, new Uint8Array(view.buffer));
  }

  /** EVTCHNOP_init_control; the answer, and the link bits that Xen wrote. */
  initControl(vcpu: number, page: number, offset: number): { result: number; linkBits: number } {
    const layout = evtchn_init_control.at(this.guest.abi);
    const view = new DataView(new ArrayBuffer(layout.size));
    layout.setNumber(view, 0, "control_gfn", this.guest.gfn(page));
    layout.set(view, 0, "offset", offset);
    layout.set(view, 0, "vcpu", vcpu);
    this.guest.poke(SCRATCH, new Uint8Array(view.buffer));
    const result = this.guest.call(__HYPERVISOR.event_channel_op, EVTCHNOP.init_control, SCRATCH);
    if (result === 0) {
      this.controls[vcpu] = { page, offset };
      this.#heads[vcpu] = new Array<number>(16).fill(0);
      this.#ready[vcpu] = 0;
    }
    return { result, linkBits: layout.get(this.guest.peek(SCRATCH, layout.size), 0, "link_bits") };
  }

  /** EVTCHNOP_expand_array with every word masked. */
  expand(page: number): number {
    const layout = evtchn_expand_array.at(this.guest.abi);
    const view = new DataView(new ArrayBuffer(layout.size));
    layout.setNumber(view, 0, "array_gfn", this.guest.gfn(page));
    if (this.guest.mfn(page) >= 0) for (let i = 0; i < 1024; i++) this.write(page, 4 * i, MASKED);
    this.guest.poke(SCRATCH, new Uint8Array(view.buffer));
    const result = this.guest.call(__HYPERVISOR.event_channel_op, EVTCHNOP.expand_array, SCRATCH);
    if (result === 0) this.array.push(page);
    return result;
  }

  word(port: number): number {
    return this.read(this.array[port >>> 10]!, (port & 1023) * 4);
  }
  #setWord(port: number, value: number): void {
    this.write(this.array[port >>> 10]!, (port & 1023) * 4, value);
  }
  isLinked(port: number): boolean {
    return (this.word(port) & LINKED) !== 0;
  }
  isPending(port: number): boolean {
    return (this.word(port) & PENDING) !== 0;
  }
  isMasked(port: number): boolean {
    return (this.word(port) & MASKED) !== 0;
  }
  mask(port: number): void {
    this.#setWord(port, this.word(port) | MASKED);
  }
  /** Clears the mask by itself; a pending event is put on a list by Xen. */
  unmask(port: number): void {
    this.#setWord(port, this.word(port) & ~MASKED);
    if (this.isPending(port)) this.guest.domain.events.unmask(port);
  }

  /** Takes events of a vCPU, at most `most`. */
  consume(vcpu: number, most = Infinity): Taken[] {
    const control = this.controls[vcpu]!;
    const heads = this.#heads[vcpu]!;
    const taken: Taken[] = [];
    let turns = 0;
    this.#takeReady(vcpu);
    while (this.#ready[vcpu] !== 0 && taken.length < most) {
      if (++turns > 200_000) throw new Error("a list never ends");
      const priority = 31 - Math.clz32(this.#ready[vcpu]! & -this.#ready[vcpu]!);
      const port =
        heads[priority] !== 0 ? heads[priority]! : this.read(control.page, control.offset + 8 + 4 * priority);
      const word = this.word(port);
      this.#setWord(port, word & ~(LINKED | LINK));
      heads[priority] = word & LINK;
      if (heads[priority] === 0) this.#ready[vcpu]! &= ~(1 << priority);
      if ((word & PENDING) !== 0 && (word & MASKED) === 0) {
        this.#setWord(port, this.word(port) & ~PENDING);
        taken.push({ port, vcpu, priority });
      }
      this.#takeReady(vcpu);
    }
    return taken;
  }

  #takeReady(vcpu: number): void {
    const control = this.controls[vcpu]!;
    const ready = this.read(control.page, control.offset);
    if (ready !== 0) this.write(control.page, control.offset, 0);
    this.#ready[vcpu] = this.#ready[vcpu]! | ready;
  }
}
