/** Addresses and names of guests' network devices, and the frames that their drivers describe. */
import type { DeviceHost } from "hookvisor";
import { PROTOCOL, transportOf, writePartial } from "./checksum.ts";
import { type Checksum, type Frame, formatMac, type Segmentation } from "./frame.ts";
import type { Network } from "./network.ts";
import type { VifSpec } from "./vif-spec.ts";

/** Addresses of Xen's guests begin so (00:16:3e). */
const XEN_OUI = 0x0016_3e00_0000;

/** The address of a new device: as its spec says, else made from the domain's uuid, which comes from the machine's seed (FNV-1a); one that nobody has. */
export function stationMac(
  spec: VifSpec,
  id: number,
  { domain, log }: Pick<DeviceHost, "domain" | "log">,
  network: Network,
): number {
  const taken = new Set(network.bridges.flatMap((one) => one.ports.map((port) => port.endpoint.mac)));
  if (spec.mac !== null) {
    if (taken.has(spec.mac)) log(`another device has its MAC address ${formatMac(spec.mac)}, too`);
    return spec.mac;
  }
  let hash = 0x811c_9dc5;
  for (const char of `${domain.uuid}/${id}`) hash = Math.imul(hash ^ char.charCodeAt(0), 0x0100_0193) >>> 0;
  let low = (hash ^ (hash >>> 24)) & 0xff_ffff;
  while (taken.has(XEN_OUI + low)) low = (low + 1) & 0xff_ffff;
  return XEN_OUI + low;
}

/** The name of a device's port. */
export function stationName(spec: VifSpec, id: number, { domain }: Pick<DeviceHost, "domain">): string {
  return spec.vifname ?? `vif${domain.id}.${id}`;
}

/** The frame that a driver describes, or what is wrong with it: a checksum left undone or segmentation where there is nothing to sum or to cut. */
export function offloaded(bytes: Uint8Array, checksum: Checksum, segmentation: Segmentation | null): Frame | string {
  if (checksum !== "partial" && segmentation === null) return { bytes, checksum, segmentation };
  const transport = transportOf(bytes);
  if (transport === null) return "a blank checksum or segmentation, and neither TCP nor UDP";
  if (segmentation !== null && (transport.protocol !== PROTOCOL.tcp || transport.version !== segmentation.version))
    return `segmentation for TCP over IPv${segmentation.version} of what is none`;
  // A segment that stands for several always has a partial checksum; some senders do not say so.
  if (checksum !== "partial") writePartial(bytes, transport);
  return { bytes, checksum: "partial", segmentation };
}
