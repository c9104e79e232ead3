/** io/ring.h: the shared page of a split driver: four indices, padding to 64 bytes, then entries, a power of two of them. */
import { array, defineStruct, type FieldSpecs, type Struct, struct, union } from "../struct.ts";

/** Bytes before the first entry. */
export const SRING_HEADER_BYTES = 64;

/** The structures that DEFINE_RING_TYPES makes: `<name>_sring`, whose `ring` has entries of `req` and `rsp`. */
export function defineRing<const Q extends FieldSpecs, const P extends FieldSpecs>(
  name: string,
  req: Struct<Q>,
  rsp: Struct<P>,
) {
  return defineStruct(`${name}_sring`, {
    req_prod: "u32",
    req_event: "u32",
    rsp_prod: "u32",
    rsp_event: "u32",
    pvt: union({ netif: struct({ smartpoll_active: "u8" }), pvt_pad: array("u8", 4) }),
    __pad: array("u8", 44),
    ring: array(union({ req, rsp }), 1),
  });
}

/** Entries of a ring of so many bytes (__CONST_RING_SIZE): the largest power of two that fits, 0 if none does. */
export function ringSize(bytes: number, entryBytes: number): number {
  const entries = Math.floor((bytes - SRING_HEADER_BYTES) / entryBytes);
  return entries < 1 ? 0 : 2 ** (31 - Math.clz32(entries));
}
