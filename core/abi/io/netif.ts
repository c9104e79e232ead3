/** io/netif.h: the network device's requests, responses and extra segments. */
import { grant_ref_t } from "../grant-table.ts";
import { array, defineStruct, struct, union } from "../struct.ts";
import { table } from "../table.ts";
import { defineRing } from "./ring.ts";

/** Flags of a transmit request. */
export const NETTXF = table({ csum_blank: 1, data_validated: 2, more_data: 4, extra_info: 8 });
/** Flags of a receive response. */
export const NETRXF = table({ data_validated: 1, csum_blank: 2, more_data: 4, extra_info: 8, gso_prefix: 16 });
export const NETIF_RSP = table({
  DROPPED: -2,
  ERROR: -1,
  OKAY: 0,
  NULL: 1,
});
export const XEN_NETIF_EXTRA_TYPE = table({
  NONE: 0,
  GSO: 1,
  MCAST_ADD: 2,
  MCAST_DEL: 3,
  HASH: 4,
  MAX: 5,
});
export const XEN_NETIF_EXTRA_FLAG_MORE = 1;
export const XEN_NETIF_GSO_TYPE = table({
  NONE: 0,
  TCPV4: 1,
  TCPV6: 2,
});
export const XEN_NETIF_NR_SLOTS_MIN = 18;
export const XEN_NETIF_MAX_TX_SIZE = 0xffff;
export const XEN_NETIF_CTRL_TYPE = table({
  INVALID: 0,
  GET_HASH_FLAGS: 1,
  SET_HASH_FLAGS: 2,
  SET_HASH_KEY: 3,
  GET_HASH_MAPPING_SIZE: 4,
  SET_HASH_MAPPING_SIZE: 5,
  SET_HASH_MAPPING: 6,
  SET_HASH_ALGORITHM: 7,
  GET_GREF_MAPPING_SIZE: 8,
  ADD_GREF_MAPPING: 9,
  DEL_GREF_MAPPING: 10,
});
export const XEN_NETIF_CTRL_STATUS = table({
  SUCCESS: 0,
  NOT_SUPPORTED: 1,
  INVALID_PARAMETER: 2,
  BUFFER_OVERFLOW: 3,
});
export const XEN_NETIF_CTRL_HASH_ALGORITHM = table({
  NONE: 0,
  TOEPLITZ: 1,
});
export const XEN_NETIF_CTRL_HASH_TYPE = table({ IPV4: 1, IPV4_TCP: 2, IPV6: 4, IPV6_TCP: 8 });

export const netif_tx_request = defineStruct("netif_tx_request", {
  gref: grant_ref_t,
  offset: "u16",
  flags: "u16",
  id: "u16",
  size: "u16",
});
export const netif_extra_info = defineStruct("netif_extra_info", {
  type: "u8",
  flags: "u8",
  u: union({
    gso: struct({ size: "u16", type: "u8", pad: "u8", features: "u16" }),
    mcast: struct({ addr: array("u8", 6) }),
    hash: struct({ type: "u8", algorithm: "u8", value: array("u8", 4) }),
    pad: array("u16", 3),
  }),
});
export const netif_tx_response = defineStruct("netif_tx_response", { id: "u16", status: "i16" });
export const netif_rx_request = defineStruct("netif_rx_request", { id: "u16", pad: "u16", gref: grant_ref_t });
/** status: bytes received, or a negative NETIF_RSP. */
export const netif_rx_response = defineStruct("netif_rx_response", {
  id: "u16",
  offset: "u16",
  flags: "u16",
  status: "i16",
});
export const netif_tx_sring = defineRing("netif_tx", netif_tx_request, netif_tx_response);
export const netif_rx_sring = defineRing("netif_rx", netif_rx_request, netif_rx_response);

export const xen_netif_ctrl_request = defineStruct("xen_netif_ctrl_request", {
  id: "u16",
  type: "u16",
  data: array("u32", 3),
});
export const xen_netif_ctrl_response = defineStruct("xen_netif_ctrl_response", {
  id: "u16",
  type: "u16",
  status: "u32",
  data: "u32",
});
export const xen_netif_gref = defineStruct("xen_netif_gref", { ref: grant_ref_t, flags: "u16", status: "u16" });
export const xen_netif_ctrl_sring = defineRing("xen_netif_ctrl", xen_netif_ctrl_request, xen_netif_ctrl_response);
