import { describe, expect, it } from "vitest";
import {
  ABI_X86_32,
  ABI_X86_64,
  type Abi,
  array,
  defineStruct,
  defineUnion,
  pad,
  struct,
  union,
  when,
} from "../../../core/abi/struct.ts";

const BIG: Abi = { wordBytes: 8, endian: "big", align64: 8 };
const point = defineStruct("point", { x: "u16", y: "i16" });
const sample = defineStruct("sample", {
  tag: "u8",
  gap: pad(2),
  sign: "i8",
  word: "ulong",
  stamp: "u64",
  delta: "i64",
  points: array(point, 3),
  bytes: array("u8", 8),
  only32: when((abi) => abi.wordBytes === 4, "u32"),
  u: union({ one: struct({ port: "u32", dom: "u16" }), raw: array("u16", 4), ptr: "handle" }),
});

describe("defineStruct", () => {
  it("lays out by C's rules, per ABI, once", () => {
    const a64 = sample.at(ABI_X86_64);
    expect(sample.at({ ...ABI_X86_64 })).toBe(a64);
    expect(a64.fields.word.offset).toBe(8);
    expect(a64.fields.stamp.offset).toBe(16);
    expect(a64.fields["points.y"]).toMatchObject({ offset: 34, size: 2, stride: 4, count: 3 });
    expect(a64.fields.bytes.offset).toBe(44);
    expect(a64.fields.only32.present).toBe(false);
    expect(a64.fields["u.one.dom"].offset).toBe(60);
    expect(a64.size).toBe(64);
    const a32 = sample.at(ABI_X86_32);
    expect(a32.fields.stamp.offset).toBe(8);
    expect(a32.fields.only32).toMatchObject({ offset: 44, size: 4, present: true });
    expect(a32.size).toBe(56);
    expect(a32.align).toBe(4);
    expect(sample.at({ wordBytes: 4, endian: "little", align64: 8 }).align).toBe(8);
  });

  it.each([ABI_X86_64, ABI_X86_32, BIG])("reads what it wrote in %o", (abi) => {
    const layout = sample.at(abi);
    const view = new DataView(new ArrayBuffer(200), 8);
    const base = 16;
    layout.set(view, base, "tag", 0x1ff);
    layout.set(view, base, "sign", -2);
    layout.setLoHi(view, base, "stamp", 0x89abcdef, 0x01234567);
    layout.setNumber(view, base, "delta", -5);
    layout.set(view, base, "points.y", -7, 2);
    layout.setNumber(view, base, "word", 0x1_0000_0002);
    layout.set(view, base, "u.one.dom", 9);
    expect(layout.get(view, base, "tag")).toBe(0xff);
    expect(layout.get(view, base, "sign")).toBe(-2);
    expect(layout.getLo(view, base, "stamp")).toBe(0x89abcdef);
    expect(layout.getHi(view, base, "stamp")).toBe(0x01234567);
    expect(layout.getNumber(view, base, "stamp")).toBe(Number(0x0123456789abcdefn));
    expect(layout.getNumber(view, base, "delta")).toBe(-5);
    expect(layout.getHi(view, base, "word")).toBe(abi.wordBytes === 8 ? 1 : 0);
    const values = layout.read(view, base);
    expect(values.points[2]).toEqual({ x: 0, y: -7 });
    expect(values.stamp).toEqual({ lo: 0x89abcdef, hi: 0x01234567 });
    expect(values.word).toEqual({ lo: 2, hi: abi.wordBytes === 8 ? 1 : 0 });
    expect(values.u.one.dom).toBe(9);
    expect(values.only32).toBe(abi.wordBytes === 4 ? 0 : undefined);
    const bytes = new Uint8Array(view.buffer, 8 + base, layout.size);
    const before = bytes.slice();
    layout.clear(view, base);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
    const { u, ...rest } = values;
    layout.write(view, base, { ...rest, u: { one: u.one } });
    expect(bytes).toEqual(before);
  });

  it("honours the byte order", () => {
    const view = new DataView(new ArrayBuffer(sample.at(BIG).size));
    sample.at(BIG).setLoHi(view, 0, "stamp", 0x89abcdef, 0x01234567);
    expect(view.getBigUint64(16, false)).toBe(0x0123456789abcdefn);
    sample.at(ABI_X86_64).setLoHi(view, 0, "stamp", 0x89abcdef, 0x01234567);
    expect(view.getBigUint64(16, true)).toBe(0x0123456789abcdefn);
  });

  it("writes text cut before its NUL, and reads it back", () => {
    const layout = sample.at(ABI_X86_64);
    const view = new DataView(new ArrayBuffer(layout.size));
    layout.setString(view, 0, "bytes", "xen-4.17-x");
    expect(layout.getString(view, 0, "bytes")).toBe("xen-4.1");
    layout.setString(view, 0, "bytes", "ab");
    expect(layout.read(view, 0).bytes).toEqual([97, 98, 0, 0, 0, 0, 0, 0]);
  });

  it("refuses what is not there", () => {
    const layout = sample.at(ABI_X86_64);
    const view = new DataView(new ArrayBuffer(layout.size));
    expect(() => layout.get(view, 0, "points.x", 3)).toThrow(RangeError);
    expect(() => layout.get(view, 0, "points.x", -1)).toThrow(RangeError);
    expect(() => layout.get(view, 0, "only32")).toThrow("only32: not in this ABI");
    expect(() => layout.write(view, 0, { bytes: new Uint8Array(9) })).toThrow(RangeError);
    // @ts-expect-error a name that is not a field
    expect(() => layout.get(view, 0, "nosuch")).toThrow("sample has no field nosuch");
    // @ts-expect-error a 64-bit field has no plain getter
    expect(() => layout.get(view, 0, "stamp")).toThrow(RangeError);
    // @ts-expect-error a narrow field has no halves
    expect(() => layout.getLo(view, 0, "tag")).toThrow(RangeError);
  });

  it("packs, and overlays the views of a union", () => {
    expect(
      defineStruct("e820entry", { addr: "u64", size: "u64", type: "u32" }, { packed: true }).at(ABI_X86_64).size,
    ).toBe(20);
    const either = defineUnion("either", { small: "u8", big: "u64" }).at(ABI_X86_64);
    expect([either.size, either.fields.small.offset, either.fields.big.offset]).toEqual([8, 0, 0]);
  });
});
