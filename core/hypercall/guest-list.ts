/** Arrays of words (xen_pfn_t, xen_ulong_t) in guest memory, by the handle that a structure holds. */
import type { HypercallCall } from "./table.ts";

const TWO32 = 0x1_0000_0000;

/** A guest pointer out of a structure, as halves. */
export interface Handle {
  readonly lo: number;
  readonly hi: number;
}

/** `bytes` behind a guest pointer. */
export function offsetHandle(call: HypercallCall, handle: Handle, bytes: number): Handle {
  const lo = handle.lo + bytes;
  return { lo: lo >>> 0, hi: call.abi.wordBytes === 4 ? 0 : (handle.hi + Math.floor(lo / TWO32)) >>> 0 };
}

/** Is it NULL? */
export function isNull(handle: Handle): boolean {
  return handle.lo === 0 && handle.hi === 0;
}

/** Element `index` as a number (Infinity from 2^53 on), or null: -EFAULT. */
export function readWord(call: HypercallCall, handle: Handle, index: number): number | null {
  const { wordBytes, endian } = call.abi;
  const at = offsetHandle(call, handle, index * wordBytes);
  const view = call.read(at.lo, at.hi, wordBytes);
  if (view === null) return null;
  const little = endian === "little";
  if (wordBytes === 4) return view.getUint32(0, little);
  const lo = view.getUint32(little ? 0 : 4, little);
  const hi = view.getUint32(little ? 4 : 0, little);
  return hi < 0x20_0000 ? hi * TWO32 + lo : Infinity;
}

/** Writes element `index`; false: -EFAULT. */
export function writeWord(call: HypercallCall, handle: Handle, index: number, value: number): boolean {
  const { wordBytes, endian } = call.abi;
  const at = offsetHandle(call, handle, index * wordBytes);
  const little = endian === "little";
  const view = new DataView(new ArrayBuffer(8));
  if (wordBytes === 4) view.setUint32(0, value, little);
  else {
    view.setUint32(little ? 0 : 4, value >>> 0, little);
    view.setUint32(little ? 4 : 0, Math.floor(value / TWO32), little);
  }
  return call.write(at.lo, at.hi, view, wordBytes);
}
