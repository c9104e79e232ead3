/**
 * The FIFO ABI of event channels (Xen: common/event_fifo.c; public/event_channel.h): up to 2^17 ports, 16 priorities a vCPU.
 *
 * Design: each port has a 32-bit event word in an array of guest frames; each vCPU has a control block with one list head a priority and
 * the bits `ready` that say which lists have something. A list is linked through the words; the guest takes from its head, we append at
 * its tail. Where the tail is, which priority a port has and on which list it last was, is kept here and never read back.
 * Invariants: an event is appended only when its word is neither MASKED nor LINKED; all that is ever written to a guest is a word of
 * the array, a head or `ready` of a control block, in frames held by a reference and a writable type until `release`; nothing follows a
 * link that a guest can write, so no operation loops or leaves the array, whatever the words say. Only this thread runs while a
 * word changes: BUSY, which keeps a guest from unmasking in the middle, is never left set.
 */
import { ERRNO, EVTCHN_FIFO, evtchn_fifo_control_block } from "../abi/index.ts";
import type { Domain } from "../domain/domain.ts";
import type { Vcpu } from "../domain/vcpu.ts";
import { FRAME_SIZE, type Frames, FrameType, type Mfn } from "../machine/frames.ts";
import type { Machine } from "../machine/machine.ts";
import type { PortAbi } from "./port-abi.ts";
import { markEventsPending, wakePollers } from "./wake.ts";

const PENDING = (1 << EVTCHN_FIFO.PENDING) >>> 0;
const MASKED = 1 << EVTCHN_FIFO.MASKED;
const LINKED = 1 << EVTCHN_FIFO.LINKED;
const BUSY = 1 << EVTCHN_FIFO.BUSY;
const QUEUES = EVTCHN_FIFO.MAX_QUEUES;

/** Event words in a frame, and frames of the whole array. */
const WORDS = FRAME_SIZE / 4;
const MOST_PAGES = EVTCHN_FIFO.NR_CHANNELS / WORDS;

/** One vCPU's lists. */
interface Queues {
  /** Frame and machine address of its control block; -1: not registered. */
  mfn: Mfn;
  control: number;
  /** The last port that was appended to each list, 0: none. The guest may have taken it since. */
  readonly tails: Uint32Array;
}

export class FifoPorts implements PortAbi {
  readonly limit = EVTCHN_FIFO.NR_CHANNELS;
  readonly #machine: Machine;
  readonly #domain: Domain;
  readonly #frames: Frames;
  readonly #little: boolean;
  readonly #head: number;
  readonly #blockBytes: number;
  readonly #pages: Mfn[] = [];
  readonly #queues: Queues[] = [];
  /** Pending while the array had no word for them. */
  readonly #saved = new Set<number>();
  /** By port; ports beyond have the default priority and were on no list. */
  #priority = new Uint8Array(64).fill(EVTCHN_FIFO.PRIORITY_DEFAULT);
  /** The list that a port was last appended to: vCPU * 16 + priority. */
  #lastQueue = new Uint32Array(64);

  constructor(machine: Machine, domain: Domain) {
    const layout = evtchn_fifo_control_block.at(domain.abi);
    this.#machine = machine;
    this.#domain = domain;
    this.#frames = machine.frames;
    this.#little = domain.abi.endian === "little";
    this.#head = layout.fields.head.offset;
    this.#blockBytes = layout.size;
  }

  /** Ports that have a word. */
  get words(): number {
    return this.#pages.length * WORDS;
  }

  /** EVTCHNOP_init_control: a vCPU's control block is `offset` bytes into a frame. 0 or a negative errno. */
  initControl(vcpu: Vcpu, gfn: number, offset: number): number {
    if (offset > FRAME_SIZE - this.#blockBytes || offset % 8 !== 0) return -ERRNO.EINVAL;
    const queues = this.#queuesOf(vcpu.id);
    if (queues.control >= 0) return -ERRNO.EINVAL;
    const mfn = this.#hold(gfn);
    if (mfn < 0) return -ERRNO.EINVAL;
    queues.mfn = mfn;
    queues.control = mfn * FRAME_SIZE + offset;
    return 0;
  }

  /** EVTCHNOP_expand_array: the next 1024 ports get words; what became pending without one is raised now. 0 or a negative errno. */
  expandArray(gfn: number, vcpuOf: (port: number) => Vcpu | null): number {
    if (this.#pages.length >= MOST_PAGES) return -ERRNO.ENOSPC;
    const mfn = this.#hold(gfn);
    if (mfn < 0) return -ERRNO.EINVAL;
    this.#pages.push(mfn);
    const { words } = this;
    for (const port of [...this.#saved].sort((a, b) => a - b)) {
      if (port >= words) break;
      this.#saved.delete(port);
      this.setPending(vcpuOf(port), port);
    }
    return 0;
  }

  /** A port was pending in the ABI before; it is raised when it has a word. */
  savePending(port: number): void {
    this.#saved.add(port);
  }

  /** Gives every frame back; nothing may be called afterwards. */
  release(): void {
    for (const mfn of this.#pages.splice(0)) this.#drop(mfn);
    for (const queues of this.#queues.splice(0)) if (queues.mfn >= 0) this.#drop(queues.mfn);
    this.#saved.clear();
  }

  opened(port: number): void {
    this.setPriority(port, EVTCHN_FIFO.PRIORITY_DEFAULT);
  }

  isBusy(port: number): boolean {
    const at = this.#word(port);
    return at >= 0 && (this.#get(at) & LINKED) !== 0;
  }

  setPending(vcpu: Vcpu | null, port: number): void {
    const at = this.#word(port);
    if (at < 0) {
      this.#saved.add(port);
      return;
    }
    const word = this.#get(at);
    const control = vcpu === null ? -1 : this.#queuesOf(vcpu.id).control;
    // Without a control block the event only stays pending: a guest may not unmask before it has registered one.
    if (control >= 0 && (word & (MASKED | LINKED)) === 0) {
      this.#set(at, word | PENDING | LINKED);
      this.#append(vcpu!, port);
    } else if ((word & PENDING) === 0) this.#set(at, word | PENDING);
    if ((word & PENDING) === 0) wakePollers(this.#machine, this.#domain, port);
  }

  /** Puts a port, whose word has just become LINKED, at the end of its vCPU's list. */
  #append(vcpu: Vcpu, port: number): void {
    this.#grow(port);
    const priority = this.#priority[port]!;
    const queues = this.#queuesOf(vcpu.id);
    const last = this.#lastQueue[port]!;
    const { tails } = this.#queuesOf(Math.floor(last / QUEUES));
    // It was taken off the list that it was the tail of, so that list is empty; its word says LINKED again for another reason.
    if (tails[last % QUEUES] === port) tails[last % QUEUES] = 0;
    this.#lastQueue[port] = vcpu.id * QUEUES + priority;
    const tail = queues.tails[priority]!;
    queues.tails[priority] = port;
    if (tail !== 0 && this.#link(tail, port)) return;
    const { control } = queues;
    this.#set(control + this.#head + 4 * priority, port);
    const ready = this.#get(control);
    if ((ready & (1 << priority)) !== 0) return;
    this.#set(control, ready | (1 << priority));
    markEventsPending(this.#machine, vcpu);
  }

  /** Links `port` after `tail`, if the guest has not taken that off the list. */
  #link(tail: number, port: number): boolean {
    const at = this.#word(tail);
    const word = this.#get(at);
    if ((word & LINKED) === 0) return false;
    this.#set(at, (word & ~(BUSY | EVTCHN_FIFO.LINK_MASK)) | port);
    return true;
  }

  /** The guest unlinks what is on a list by itself, and passes over what is not pending. */
  clearPending(port: number): void {
    this.#saved.delete(port);
    const at = this.#word(port);
    if (at < 0) return;
    const word = this.#get(at);
    if ((word & PENDING) !== 0) this.#set(at, word & ~PENDING);
  }

  isPending(port: number): boolean {
    const at = this.#word(port);
    return at >= 0 && (this.#get(at) & PENDING) !== 0;
  }

  isMasked(port: number): boolean {
    const at = this.#word(port);
    return at < 0 || (this.#get(at) & MASKED) !== 0;
  }

  unmask(vcpu: Vcpu | null, port: number): void {
    const at = this.#word(port);
    if (at < 0) return;
    const word = this.#get(at);
    if ((word & MASKED) !== 0) this.#set(at, word & ~MASKED);
    if ((word & PENDING) !== 0) this.setPending(vcpu, port);
  }

  /** For events to come: one that is on a list stays there. */
  setPriority(port: number, priority: number): number {
    if (priority > EVTCHN_FIFO.PRIORITY_MIN) return -ERRNO.EINVAL;
    this.#grow(port);
    this.#priority[port] = priority;
    return 0;
  }

  #queuesOf(vcpu: number): Queues {
    let queues = this.#queues[vcpu];
    while (queues === undefined) {
      this.#queues.push({ mfn: -1, control: -1, tails: new Uint32Array(QUEUES) });
      queues = this.#queues[vcpu];
    }
    return queues;
  }

  #grow(port: number): void {
    if (port < this.#priority.length) return;
    const length = 2 ** (32 - Math.clz32(port));
    const priority = new Uint8Array(length).fill(EVTCHN_FIFO.PRIORITY_DEFAULT);
    priority.set(this.#priority);
    const lastQueue = new Uint32Array(length);
    lastQueue.set(this.#lastQueue);
    this.#priority = priority;
    this.#lastQueue = lastQueue;
  }

  /** Machine address of a port's word; -1: it has none yet. */
  #word(port: number): number {
    const mfn = this.#pages[Math.floor(port / WORDS)];
    return mfn === undefined ? -1 : mfn * FRAME_SIZE + (port % WORDS) * 4;
  }

  #get(at: number): number {
    return this.#frames.view.getUint32(at, this.#little);
  }

  #set(at: number, value: number): void {
    this.#frames.view.setUint32(at, value, this.#little);
    const offset = at % FRAME_SIZE;
    this.#frames.wrote(Math.floor(at / FRAME_SIZE), offset, offset + 4);
  }

  /** Takes a frame of the domain's, with a writable type; -1: it cannot be had. */
  #hold(gfn: number): Mfn {
    const domain = this.#domain;
    if (domain.dying || gfn > 0xffffffff) return -1;
    const mfn = domain.arch!.gfnToMfn(domain, gfn);
    if (mfn < 0 || !this.#frames.getRef(mfn, domain.id)) return -1;
    if (this.#frames.getType(mfn, FrameType.writable)) return mfn;
    this.#frames.putRef(mfn);
    return -1;
  }

  #drop(mfn: Mfn): void {
    this.#frames.putType(mfn);
    this.#frames.putRef(mfn);
  }
}
