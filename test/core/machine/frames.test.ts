/** Frames: a model of owners and counts under random operations; contiguous extents after much coming and going; what observers are told. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FRAME_SIZE, Frames, FrameType, INVALID_GFN, OutOfFrames, OWNER_FREE } from "../../../core/machine/frames.ts";

const COUNT = 64;

type Command = readonly [kind: number, a: number, b: number];
const commands = fc.array(fc.tuple(fc.nat(9), fc.nat(COUNT - 1), fc.integer({ min: 1, max: 3 })), { maxLength: 200 });

describe("frames", () => {
  test("counts, owners and types hold whatever happens", () => {
    fc.assert(
      fc.property(commands, (list: readonly Command[]) => {
        const frames = new Frames(COUNT);
        const refs = new Map<number, number>();
        const types = new Map<number, number>();
        let freed = 0;
        frames.onWrite((mfn, from, to) => {
          if (from === 0 && to === FRAME_SIZE && frames.owner[mfn] === OWNER_FREE) freed++;
        });
        for (const [kind, a, owner] of list) {
          const mfn = a;
          if (kind <= 2) {
            const count = 1 + (a % 5);
            let got: number[] = [];
            try {
              const first = kind === 2 ? frames.allocateContiguous(owner, count, count) : -1;
              if (kind === 2) expect(first % count).toBe(0);
              got = kind === 2 ? Array.from({ length: count }, (_, i) => first + i) : frames.allocate(owner, count);
            } catch (error) {
              expect(error).toBeInstanceOf(OutOfFrames);
              if (kind !== 2) expect(frames.free).toBeLessThan(count);
            }
            for (const one of got) {
              expect(refs.has(one)).toBe(false);
              expect(frames.page(one).every((byte) => byte === 0)).toBe(true);
              expect(frames.gfnOf[one]).toBe(INVALID_GFN);
              refs.set(one, 1);
            }
          } else if (kind === 3 && refs.has(mfn)) {
            expect(frames.getRef(mfn, frames.owner[mfn]!)).toBe(true);
            refs.set(mfn, refs.get(mfn)! + 1);
          } else if (kind === 4) {
            expect(frames.getRef(mfn, owner)).toBe(refs.has(mfn) && frames.owner[mfn] === owner);
            if (refs.has(mfn) && frames.owner[mfn] === owner) refs.set(mfn, refs.get(mfn)! + 1);
          } else if (kind === 5 && (refs.get(mfn) ?? 0) > 1) {
            frames.putRef(mfn);
            refs.set(mfn, refs.get(mfn)! - 1);
          } else if (kind === 6 && refs.has(mfn)) {
            const type = owner;
            const may = (types.get(mfn) ?? 0) === 0 || frames.type[mfn] === type;
            expect(frames.getType(mfn, type)).toBe(may);
            if (may) types.set(mfn, (types.get(mfn) ?? 0) + 1);
          } else if (kind === 7 && (types.get(mfn) ?? 0) > 0) {
            expect(frames.putType(mfn)).toBe(types.get(mfn) === 1);
            types.set(mfn, types.get(mfn)! - 1);
          } else if (kind === 8 && refs.has(mfn) && (types.get(mfn) ?? 0) === 0) {
            frames.page(mfn)[7] = 7;
            const before = freed;
            const last = refs.get(mfn) === 1 && frames.allocated[mfn] === 1;
            const dropped = frames.dropAllocation(mfn);
            if (dropped && last) {
              refs.delete(mfn);
              expect(freed).toBe(before + 1);
              expect(frames.page(mfn)[7]).toBe(0);
            } else if (dropped) refs.set(mfn, refs.get(mfn)! - 1);
          }
          for (const [one, count] of refs) {
            expect(frames.refs[one]).toBe(count);
            expect(frames.owner[one]).not.toBe(OWNER_FREE);
          }
          expect(frames.free).toBe(COUNT - refs.size);
          for (const id of [1, 2, 3])
            expect(frames.ownedBy(id)).toBe([...refs.keys()].filter((one) => frames.owner[one] === id).length);
        }
      }),
      { numRuns: 200, interruptAfterTimeLimit: 2000 },
    );
  });

  test("contiguous extents are found again among frames that came back", () => {
    const frames = new Frames(COUNT);
    for (let round = 0; round < 50; round++) {
      const single = frames.allocate(9, 1 + (round % 3));
      const got: number[] = [];
      for (;;)
        try {
          const first = frames.allocateContiguous(1, 4, 4);
          expect(first % 4).toBe(0);
          got.push(first);
        } catch (error) {
          expect(error).toBeInstanceOf(OutOfFrames);
          break;
        }
      expect(got.length).toBeGreaterThanOrEqual((COUNT - 4) / 4 - 2);
      expect(new Set(got).size).toBe(got.length);
      expect(frames.ownedBy(1)).toBe(4 * got.length);
      frames.disown(1);
      for (const mfn of single) frames.dropAllocation(mfn);
      expect(frames.free).toBe(COUNT);
    }
    expect(frames.allocate(1, COUNT).sort((a, b) => a - b)).toEqual(Array.from({ length: COUNT }, (_, i) => i));
  });

  test("a frame that is held outlives its domain, and is scrubbed at its end", () => {
    const frames = new Frames(COUNT);
    const gone: number[] = [];
    frames.onEmpty((owner) => gone.push(owner));
    const [a, b] = frames.allocate(1, 2) as [number, number];
    frames.page(a).fill(0xaa);
    frames.getRef(a, 1);
    frames.disown(1);
    frames.disown(1);
    expect([frames.owns(1, a), frames.owns(1, b), frames.ownedBy(1)]).toEqual([true, false, 1]);
    expect(gone).toEqual([]);
    frames.putRef(a);
    expect(gone).toEqual([1]);
    expect(frames.page(a).every((byte) => byte === 0)).toBe(true);
    expect(() => frames.putRef(a)).toThrow(/below zero/);
    expect(() => frames.putType(a)).toThrow(/below zero/);
  });

  test("a type changes only when nobody uses it, after every TLB has forgotten the frame, and validation may refuse", () => {
    const frames = new Frames(COUNT);
    const [mfn] = frames.allocate(1, 1) as [number];
    const forgotten: number[] = [];
    frames.onRetype((one) => forgotten.push(one));
    expect(frames.getType(mfn, FrameType.writable)).toBe(true);
    expect(frames.getType(mfn, FrameType.firstArch)).toBe(false);
    expect(forgotten).toEqual([mfn]);
    expect(frames.putType(mfn)).toBe(true);
    expect(frames.getType(mfn, FrameType.firstArch, () => false)).toBe(false);
    expect([frames.type[mfn], frames.typeCount[mfn]]).toEqual([FrameType.writable, 0]);
    expect(frames.getType(mfn, FrameType.firstArch, () => frames.typeCount[mfn] === 1)).toBe(true);
    expect(forgotten).toEqual([mfn, mfn, mfn]);
    frames.putType(mfn);
    frames.setOwner(mfn, 2);
    expect([frames.owner[mfn], frames.type[mfn], frames.ownedBy(1), frames.ownedBy(2)]).toEqual([2, 0, 0, 1]);
  });

  test("numbers that are no frame", () => {
    const frames = new Frames(COUNT);
    for (const mfn of [-1, COUNT, 0.5, Number.NaN, Infinity, 2 ** 40]) {
      expect(frames.valid(mfn)).toBe(false);
      expect(frames.getRef(mfn, 0)).toBe(false);
    }
    expect(() => new Frames(8)).toThrow(RangeError);
    expect(() => new Frames(2 ** 20 + 1)).toThrow(RangeError);
  });
});
