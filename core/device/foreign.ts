/**
 * Mapping a guest's frames by number, as domain 0 does for the pages that the domain builder made (console) and for devices
 * that publish frame numbers instead of grants (vfb).
 *
 * Invariants: only frames that the domain owns; a writable mapping holds a writable type reference, so that a page-table frame is
 * refused; unmap gives back exactly what was taken, once.
 */
import { GNTST } from "../abi/index.ts";
import type { Domain } from "../domain/domain.ts";
import { GrantError } from "../grant/grant-error.ts";
import { FrameType } from "../machine/frames.ts";
import type { Machine } from "../machine/machine.ts";
import type { MappedPages } from "./device-type.ts";

/** Maps frames of `domain`, named by gfn (a PV guest names mfns); throws GrantError. */
export function mapForeign(
  machine: Machine,
  domain: Domain,
  gfns: readonly number[],
  access: "ro" | "rw",
): MappedPages {
  const { frames } = machine;
  const taken: number[] = [];
  const release = (): void => {
    for (const mfn of taken.splice(0)) {
      if (access === "rw") frames.putType(mfn);
      frames.putRef(mfn);
    }
  };
  for (const gfn of gfns) {
    const mfn = domain.arch?.gfnToMfn(domain, gfn) ?? -1;
    const refused = domain.dying || mfn < 0 || !frames.getRef(mfn, domain.id);
    if (!refused && access === "rw" && !frames.getType(mfn, FrameType.writable)) {
      frames.putRef(mfn);
      release();
      throw new GrantError(
        GNTST.permission_denied,
        `frame ${gfn} of ${domain} is in use as a page table or descriptor page`,
      );
    }
    if (refused) {
      release();
      throw new GrantError(GNTST.bad_page, `frame ${gfn} is not ${domain}'s`);
    }
    taken.push(mfn);
  }
  const mfns = [...taken];
  return {
    pages: mfns.map((mfn) => frames.page(mfn)),
    wrote: (page, from, to) => frames.wrote(mfns[page]!, from, to),
    unmap: release,
  };
}
