/**
 * A recorded conversation of Debian's Linux with real Xen's store (fixtures/xenstore), replayed: the same requests, and the same changes
 * by domain 0 between them, get the same answers and events in the same order.
 */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { XS } from "../../../core/abi/xs-wire.ts";
import { parsePermission } from "../../../core/xenstore/permissions.ts";
import { XenStoreService } from "../../../core/xenstore/service.ts";
import { textOf } from "../../../core/xenstore/wire.ts";
import { Peer, typeName } from "./peer.ts";

const fixture = (name: string): string[] =>
  readFileSync(new URL(`../../fixtures/xenstore/${name}`, import.meta.url), "utf8")
    .split("\n")
    .filter((line) => line !== "");

const vbd = "/local/domain/0/backend/vbd/1/51712";
const vif = "/local/domain/0/backend/vif/1/0";
const domain = "/local/domain/1";

/** Nodes of the listing that came to be during the conversation, and values that were others before it. */
const later = [
  `${vbd}/(feature-(flush-cache|discard|barrier|persistent)|discard-(granularity|alignment|secure)|sectors|info|sector-size|physical-sector-size)`,
  `${domain}/device/vbd/51712/(protocol|ring-ref|event-channel|feature-persistent)`,
  `${domain}/device/vif/0/(xdp-headroom|multi-queue-num-queues|(tx|rx)-ring-ref|event-channel-(tx|rx)|request-rx-copy|feature-.*)`,
].map((pattern) => new RegExp(`^${pattern}$`));
const before = new Map([
  ...["poweroff", "reboot", "suspend"].map((what): [string, string] => [`${domain}/control/feature-${what}`, ""]),
  [`${vbd}/state`, "2"],
  [`${vif}/state`, "2"],
  [`${domain}/device/vbd/51712/state`, "1"],
  [`${domain}/device/vif/0/state`, "1"],
]);

describe("a recorded conversation", () => {
  it("gets the same answers", () => {
    const service = new XenStoreService({ host: { domainExists: (domid) => domid === 1 } });
    const dom0 = service.client();
    const afterwards = new Map<string, string>();
    for (const line of fixture("ls-running-domu.txt")) {
      const [, path, value, permissions] = /^(\S+) = "(.*)" {3}\((.*)\)$/.exec(line)!;
      if (later.some((pattern) => pattern.test(path!))) {
        afterwards.set(path!, value!);
        continue;
      }
      dom0.write(path!, before.get(path!) ?? value!);
      dom0.setPermissions(path!, permissions!.split(",").map(parsePermission));
    }
    const guest = new Peer(service.introduceDomain(1));

    // What domain 0 did, by the number of the line before which it shows.
    const backendConnects = (base: string): void => {
      for (const [path, value] of afterwards) if (path.startsWith(`${base}/`)) dom0.write(path, value);
      dom0.write(`${base}/state`, "4");
    };
    const removeWithEmptyParents = (path: string): void => {
      dom0.rm(path);
      const parent = path.slice(0, path.lastIndexOf("/"));
      if (dom0.list(parent).length === 0) removeWithEmptyParents(parent);
    };
    const done = new Map<number, () => void>([
      [113, () => backendConnects(vbd)],
      [271, () => backendConnects(vif)],
      [285, () => dom0.write(`${vif}/state`, "5")],
      [305, () => dom0.write(`${vif}/state`, "6")],
      [313, () => dom0.write(`${vbd}/state`, "5")],
      [325, () => dom0.write(`${vbd}/state`, "6")],
      [326, () => removeWithEmptyParents(`${domain}/device/vbd/51712`)],
      [328, () => removeWithEmptyParents(`${domain}/device/vif/0`)],
      [330, () => dom0.rm(vif)],
      [331, () => dom0.rm(vbd)],
      [332, () => dom0.rm(domain)],
    ]);

    const expected: string[] = [];
    const got: string[] = [];
    const lines = fixture("domu-pv-wire-trace.txt");
    let tx = 0;
    let commits = false;
    const collect = (messages: ReturnType<Peer["drain"]>): void => {
      for (const { type, payload } of messages)
        got.push(`${typeName(type)} (${textOf(payload).replaceAll("\0", " ")})`);
    };
    for (const [index, line] of lines.entries()) {
      done.get(index + 1)?.();
      collect(guest.drain());
      const [, direction, name, body] = /^(IN|OUT) (\S+) \((.*)\)$/.exec(line)!;
      if (direction === "OUT") {
        expected.push(`${name} (${body})`);
        continue;
      }
      const type = XS[name as keyof typeof XS];
      // The recording has no transaction ids: Linux' two early read-only transactions hold one READ each, the others everything.
      const inside = tx !== 0 && (commits || name === "TRANSACTION_END" || /^control\/(shutdown|sysrq)/.test(body!));
      const answers = guest.exchange(type, body!.replaceAll(" ", "\0"), inside ? tx : 0);
      collect(answers);
      if (type === XS.TRANSACTION_START) {
        tx = Number(textOf(answers[0]!.payload, 0, answers[0]!.payload.length - 1));
        commits = lines
          .slice(index)
          .find((next) => next.startsWith("IN TRANSACTION_END"))!
          .includes("(T");
      } else if (type === XS.TRANSACTION_END) tx = 0;
    }
    collect(guest.drain());
    expect(got).toEqual(expected);
  });
});
