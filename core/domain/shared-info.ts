/**
 * The shared info page of a domain, and each vCPU's vcpu_info, wherever it lies (xen.h: shared_info, vcpu_info).
 *
 * Design: offsets are computed once per domain from the guest's ABI; event bits are reached bytewise, which serves both byte
 * orders without 64-bit arithmetic. vcpu_info and arch_shared_info are x86's, or with GuestAbi.bareInfo those without an arch's part.
 * Invariants: the page is a frame that the domain owns, held by one reference and one writable type reference until `release`
 * (Xen: share_xen_page_with_guest), so that it can become no page table and cannot be given back; every write is reported by
 * `frames.wrote`; a vCPU without a vcpu_info (number >= legacyVcpus, none registered) has infoAddress -1 and takes no events.
 */
import { arch_shared_info, defineSharedInfo, defineStruct, defineVcpuInfo, isI386, vcpu_info } from "../abi/index.ts";
import type { GuestAbi } from "../architecture/guest-abi.ts";
import { FRAME_SHIFT, FRAME_SIZE, type Frames, FrameType, type Mfn } from "../machine/frames.ts";
import type { Nanoseconds } from "../machine/timers.ts";
import type { Domain } from "./domain.ts";
import type { Vcpu } from "./vcpu.ts";

const SECOND = 1e9;

const NOTHING = defineStruct("arch", {});
const BARE_VCPU_INFO = defineVcpuInfo(NOTHING);

export class SharedInfo {
  readonly mfn: Mfn;
  readonly abi: GuestAbi;
  /** Ports of the 2-level ABI: the square of the bits of a word. */
  readonly ports: number;
  /** Bytes of a struct vcpu_info. */
  readonly vcpuInfoSize: number;
  /** Offset of the struct vcpu_time_info within a vcpu_info. */
  readonly timeOffset: number;
  readonly #frames: Frames;
  readonly #base: number;
  readonly #pending: number;
  readonly #mask: number;
  readonly #wallclock: number;
  readonly #wallclockHigh: number;
  readonly #maxPfn: number;
  readonly #selector: number;
  readonly #little: boolean;
  readonly #wordBits: number;
  #held = true;

  /** Takes a frame for `domain` and makes it its shared info page (domain.shared, domain.sharedInfo). Throws OutOfFrames. */
  static allocate(frames: Frames, domain: Domain): SharedInfo {
    const [mfn] = frames.allocate(domain.id, 1) as [Mfn];
    frames.getType(mfn, FrameType.writable);
    const shared = new SharedInfo(frames, domain.abi, mfn);
    domain.shared = shared;
    domain.sharedInfo = mfn;
    for (const vcpu of domain.vcpus) shared.attach(vcpu);
    return shared;
  }

  private constructor(frames: Frames, abi: GuestAbi, mfn: Mfn) {
    const whole = defineSharedInfo(vcpu_info, arch_shared_info, abi.legacyVcpus).at(abi);
    const layout = abi.bareInfo ? defineSharedInfo(BARE_VCPU_INFO, NOTHING, abi.legacyVcpus).at(abi) : whole;
    const vcpuLayout = (abi.bareInfo ? BARE_VCPU_INFO : vcpu_info).at(abi);
    if (layout.size > FRAME_SIZE) throw new RangeError(`shared_info of ${abi.name} has ${layout.size} bytes`);
    const base = mfn * FRAME_SIZE;
    this.#frames = frames;
    this.abi = abi;
    this.mfn = mfn;
    this.ports = (abi.wordBytes * 8) ** 2;
    this.vcpuInfoSize = vcpuLayout.size;
    this.timeOffset = vcpuLayout.fields.time.offset;
    this.#base = base;
    this.#pending = base + layout.fields.evtchn_pending.offset;
    this.#mask = base + layout.fields.evtchn_mask.offset;
    this.#wallclock = base + layout.fields.wc_version.offset;
    this.#wallclockHigh = base + (isI386(abi) ? whole.fields["arch.wc_sec_hi"] : layout.fields.wc_sec_hi).offset;
    this.#maxPfn = abi.bareInfo ? -1 : base + whole.fields["arch.max_pfn"].offset;
    this.#selector = vcpuLayout.fields.evtchn_pending_sel.offset;
    this.#little = abi.endian === "little";
    this.#wordBits = abi.wordBytes * 8;
  }

  /** Gives the page back; the domain has no shared info from then on. Vcpus must be detached before. */
  release(domain: Domain): void {
    if (!this.#held) return;
    this.#held = false;
    domain.shared = null;
    domain.sharedInfo = -1;
    this.#frames.putType(this.mfn);
    this.#frames.dropAllocation(this.mfn);
  }

  /** Gives a new vCPU its vcpu_info in this page. */
  attach(vcpu: Vcpu): void {
    vcpu.infoAddress = vcpu.id < this.abi.legacyVcpus ? this.#base + vcpu.id * this.vcpuInfoSize : -1;
    vcpu.infoMfn = -1;
  }

  /** Lets go of a registered vcpu_info; the vCPU takes no more events. */
  detach(vcpu: Vcpu): void {
    vcpu.infoAddress = -1;
    if (vcpu.infoMfn < 0) return;
    const mfn = vcpu.infoMfn;
    vcpu.infoMfn = -1;
    this.#frames.putType(mfn);
    this.#frames.putRef(mfn);
  }

  /**
   * VCPUOP_register_vcpu_info: moves a vCPU's vcpu_info to `offset` of a frame, whose reference and writable type the caller
   * has taken. Copies the old contents, or starts with upcalls masked; everything is then marked pending (Xen: map_vcpu_info).
   */
  relocate(vcpu: Vcpu, mfn: Mfn, offset: number): void {
    const { bytes } = this.#frames;
    const address = mfn * FRAME_SIZE + offset;
    if (vcpu.infoAddress >= 0) bytes.copyWithin(address, vcpu.infoAddress, vcpu.infoAddress + this.vcpuInfoSize);
    else {
      bytes.fill(0, address, address + this.vcpuInfoSize);
      bytes[address + 1] = 1;
    }
    vcpu.infoAddress = address;
    vcpu.infoMfn = mfn;
    bytes[address] = 1;
    bytes.fill(0xff, address + this.#selector, address + this.#selector + this.abi.wordBytes);
    this.wrote(address, this.vcpuInfoSize);
  }

  /** Reports a write of `length` bytes at a machine address within one frame. */
  wrote(address: number, length: number): void {
    const offset = address & (FRAME_SIZE - 1);
    this.#frames.wrote(address >>> FRAME_SHIFT, offset, offset + length);
  }

  /** Machine address of the byte that holds a bit of a bitmap of words. */
  #byteOf(bitmap: number, bit: number): number {
    if (this.#little) return bitmap + (bit >>> 3);
    const bytes = this.abi.wordBytes;
    const index = bit >>> 3;
    return bitmap + index - (index % bytes) + (bytes - 1 - (index % bytes));
  }

  #test(bitmap: number, bit: number): boolean {
    return (this.#frames.bytes[this.#byteOf(bitmap, bit)]! & (1 << (bit & 7))) !== 0;
  }

  /** Sets or clears a bit; returns what it was. */
  #change(bitmap: number, bit: number, value: boolean): boolean {
    const at = this.#byteOf(bitmap, bit);
    const { bytes } = this.#frames;
    const before = bytes[at]!;
    const flag = 1 << (bit & 7);
    if (((before & flag) !== 0) === value) return value;
    bytes[at] = before ^ flag;
    this.wrote(at, 1);
    return !value;
  }

  /** evtchn_pending. Ports are the caller's to check. */
  isPending(port: number): boolean {
    return this.#test(this.#pending, port);
  }
  /** Sets the pending bit; was it set? */
  setPending(port: number): boolean {
    return this.#change(this.#pending, port, true);
  }
  clearPending(port: number): void {
    this.#change(this.#pending, port, false);
  }
  /** evtchn_mask. */
  isMasked(port: number): boolean {
    return this.#test(this.#mask, port);
  }
  /** Clears the mask bit; was it set? */
  clearMask(port: number): boolean {
    return this.#change(this.#mask, port, false);
  }
  /** Sets the bit of evtchn_pending_sel for the word of `port`; was it set? True for a vCPU without vcpu_info. */
  select(vcpu: Vcpu, port: number): boolean {
    if (vcpu.infoAddress < 0) return true;
    return this.#change(vcpu.infoAddress + this.#selector, Math.floor(port / this.#wordBits), true);
  }

  /** Evtchn_upcall_pending: an event waits for the vCPU. */
  upcallPending(vcpu: Vcpu): boolean {
    return vcpu.infoAddress >= 0 && this.#frames.bytes[vcpu.infoAddress] !== 0;
  }
  /** Sets evtchn_upcall_pending; was it set? */
  setUpcallPending(vcpu: Vcpu): boolean {
    if (vcpu.infoAddress < 0) return true;
    const { bytes } = this.#frames;
    const before = bytes[vcpu.infoAddress]!;
    if ((before & 1) !== 0) return true;
    bytes[vcpu.infoAddress] = before | 1;
    this.wrote(vcpu.infoAddress, 1);
    return false;
  }
  /** Evtchn_upcall_mask: the vCPU wants no upcalls. True for a vCPU without vcpu_info. */
  upcallMask(vcpu: Vcpu): boolean {
    return vcpu.infoAddress < 0 || this.#frames.bytes[vcpu.infoAddress + 1] !== 0;
  }
  setUpcallMask(vcpu: Vcpu, masked: boolean): void {
    if (vcpu.infoAddress < 0) return;
    this.#frames.bytes[vcpu.infoAddress + 1] = masked ? 1 : 0;
    this.wrote(vcpu.infoAddress + 1, 1);
  }

  /** Writes the wall clock at system time 0, in nanoseconds since 1970, with the version protocol (odd while it changes). */
  setWallclock(at: Nanoseconds): void {
    const { view } = this.#frames;
    const seconds = Math.floor(at / SECOND);
    const rest = Math.min(Math.max(at - seconds * SECOND, 0), SECOND - 1);
    const little = this.#little;
    const version = view.getUint32(this.#wallclock, little);
    view.setUint32(this.#wallclock, (version | 1) >>> 0, little);
    view.setUint32(this.#wallclock + 4, seconds >>> 0, little);
    view.setUint32(this.#wallclock + 8, rest, little);
    view.setUint32(this.#wallclockHigh, Math.floor(seconds / 0x1_0000_0000) >>> 0, little);
    view.setUint32(this.#wallclock, ((version | 1) + 1) >>> 0, little);
    this.wrote(this.#wallclock, 12);
    this.wrote(this.#wallclockHigh, 4);
  }

  /** What the guest has written to arch.max_pfn; a hostile number, at most 2^53 or Infinity; 0 where there is no such member. */
  maxPfn(): number {
    if (this.#maxPfn < 0) return 0;
    const { view } = this.#frames;
    const little = this.#little;
    if (this.abi.wordBytes === 4) return view.getUint32(this.#maxPfn, little);
    const lo = view.getUint32(this.#maxPfn + (little ? 0 : 4), little);
    const hi = view.getUint32(this.#maxPfn + (little ? 4 : 0), little);
    return hi < 0x20_0000 ? hi * 0x1_0000_0000 + lo : Infinity;
  }
}
