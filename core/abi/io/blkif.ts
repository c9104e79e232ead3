/** io/blkif.h: the block device's requests and responses. */
import { grant_ref_t } from "../grant-table.ts";
import { array, defineStruct, isI386, when } from "../struct.ts";
import { table } from "../table.ts";
import { defineRing } from "./ring.ts";

export const BLKIF_OP = table({
  READ: 0,
  WRITE: 1,
  WRITE_BARRIER: 2,
  FLUSH_DISKCACHE: 3,
  RESERVED_1: 4,
  DISCARD: 5,
  INDIRECT: 6,
});
export const BLKIF_RSP = table({
  EOPNOTSUPP: -2,
  ERROR: -1,
  OKAY: 0,
});
export const BLKIF_MAX = table({
  SEGMENTS_PER_REQUEST: 11,
  INDIRECT_PAGES_PER_REQUEST: 8,
});
export const BLKIF_DISCARD_SECURE = 1;
/** Bits of a disk's `info` node. */
export const VDISK = table({
  CDROM: 1,
  REMOVABLE: 2,
  READONLY: 4,
});

/** first_sect and last_sect are inclusive, in units of 512 bytes within the granted frame. */
export const blkif_request_segment = defineStruct("blkif_request_segment", {
  gref: grant_ref_t,
  first_sect: "u8",
  last_sect: "u8",
});
export const blkif_request = defineStruct("blkif_request", {
  operation: "u8",
  nr_segments: "u8",
  handle: "u16",
  id: "u64",
  sector_number: "u64",
  seg: array(blkif_request_segment, BLKIF_MAX.SEGMENTS_PER_REQUEST),
});
export const blkif_request_discard = defineStruct("blkif_request_discard", {
  operation: "u8",
  flag: "u8",
  handle: "u16",
  id: "u64",
  sector_number: "u64",
  nr_sectors: "u64",
});
export const blkif_request_indirect = defineStruct("blkif_request_indirect", {
  operation: "u8",
  indirect_op: "u8",
  nr_segments: "u16",
  id: "u64",
  sector_number: "u64",
  handle: "u16",
  indirect_grefs: array(grant_ref_t, BLKIF_MAX.INDIRECT_PAGES_PER_REQUEST),
  pad: when(isI386, "u64"),
});
export const blkif_response = defineStruct("blkif_response", { id: "u64", operation: "u8", status: "i16" });
export const blkif_sring = defineRing("blkif", blkif_request, blkif_response);
