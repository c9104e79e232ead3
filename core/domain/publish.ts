/**
 * What a domain finds in XenStore when it starts: the nodes that Xen's toolstack writes, with its permissions.
 *
 * Source: the store of a running domU on Xen 4.17 (recorded). Permissions: `n0,rN` for what the toolstack owns and the guest may
 * read, `nN` for what the guest may write.
 */
import type { XenStoreClient } from "../xenstore/client.ts";
import { Access, type Permission } from "../xenstore/permissions.ts";
import type { Domain } from "./domain.ts";

/** Directories that a guest may write below its home. */
const GUEST_DIRECTORIES = [
  "control/shutdown",
  "control/feature-poweroff",
  "control/feature-reboot",
  "control/feature-suspend",
  "control/sysrq",
  "device/suspend/event-channel",
  "data",
  "drivers",
  "feature",
  "attr",
  "error",
];

/** Permissions of a node that domain 0 owns and the guest may read. */
export function guestReadable(domid: number): Permission[] {
  return [
    { domid: 0, access: Access.NONE },
    { domid, access: Access.READ },
  ];
}

/** Permissions of a node that the guest owns; domain 0 may always read. */
export function guestOwned(domid: number): Permission[] {
  return [{ domid, access: Access.NONE }];
}

/** Writes a domain's nodes. Memory in KiB as the toolstack has it. */
export function publishDomain(
  client: XenStoreClient,
  domain: Domain,
  facts: { readonly memoryMiB: number; readonly vcpus: number },
): void {
  const home = `/local/domain/${domain.id}`;
  const vm = `/vm/${domain.uuid}`;
  const put = (path: string, value: string): void => {
    client.write(path, value);
    client.setPermissions(path, guestReadable(domain.id));
  };
  put(vm, "");
  put(`${vm}/name`, domain.name);
  put(`${vm}/uuid`, domain.uuid);
  put(home, "");
  put(`${home}/vm`, vm);
  put(`${home}/name`, domain.name);
  put(`${home}/domid`, String(domain.id));
  put(`${home}/cpu`, "");
  for (let cpu = 0; cpu < facts.vcpus; cpu++) {
    put(`${home}/cpu/${cpu}`, "");
    put(`${home}/cpu/${cpu}/availability`, "online");
  }
  put(`${home}/memory`, "");
  put(`${home}/memory/static-max`, String(facts.memoryMiB * 1024));
  put(`${home}/memory/target`, String(facts.memoryMiB * 1024));
  put(`${home}/memory/videoram`, "0");
  put(`${home}/device`, "");
  put(`${home}/device/suspend`, "");
  put(`${home}/control`, "");
  put(`${home}/control/platform-feature-multiprocessor-suspend`, "1");
  put(`${home}/control/platform-feature-xs_reset_watches`, "1");
  for (const path of GUEST_DIRECTORIES) {
    client.write(`${home}/${path}`, "");
    client.setPermissions(`${home}/${path}`, guestOwned(domain.id));
  }
  if (domain.store.mfn >= 0) {
    put(`${home}/store`, "");
    put(`${home}/store/port`, String(domain.store.port));
    put(`${home}/store/ring-ref`, String(domain.store.mfn));
  }
}
