import { beforeEach, describe, expect, it } from "vitest";
import type { XenStoreClient } from "../../../core/xenstore/client.ts";
import { XenStoreError } from "../../../core/xenstore/errors.ts";
import { XenStoreService } from "../../../core/xenstore/service.ts";
import { Peer } from "./peer.ts";

let service: XenStoreService;
let client: XenStoreClient;

beforeEach(() => {
  service = new XenStoreService();
  client = service.client();
});

function refused(operation: () => unknown): string {
  try {
    operation();
  } catch (error) {
    if (error instanceof XenStoreError) return `${error.errno} ${error.number}`;
    throw error;
  }
  return "done";
}

describe("the client inside the process", () => {
  it("reads, writes, lists and removes", () => {
    client.write("/a/b", "grün");
    client.write("/a/c", new Uint8Array([0, 255]));
    expect(client.read("/a/b")).toBe("grün");
    expect(client.readBytes("/a/c")).toEqual(new Uint8Array([0, 255]));
    expect(client.list("/a")).toEqual(["b", "c"]);
    expect([client.exists("/a"), client.exists("/z"), client.tryRead("/z")]).toEqual([true, false, undefined]);
    client.rm("/a/b");
    expect(client.list("/a")).toEqual(["c"]);
    client.mkdir("relative");
    expect(client.exists("/local/domain/0/relative")).toBe(true);
    client.setPermissions("/a", [{ domid: 3, access: 1 }]);
    expect(client.permissions("/a")).toEqual([{ domid: 3, access: 1 }]);
  });
  it("throws errors with a name and a number", () => {
    expect(refused(() => client.read("/none"))).toBe("ENOENT 2");
    expect(refused(() => client.rm("/"))).toBe("EINVAL 22");
    expect(refused(() => client.write("no spaces", ""))).toBe("EINVAL 22");
    expect(refused(() => client.write("/big", "x".repeat(4097)))).toBe("EINVAL 22");
  });
  it("does not share its bytes", () => {
    const value = new Uint8Array([1]);
    client.write("/a", value);
    value[0] = 2;
    client.readBytes("/a")[0] = 3;
    expect(client.readBytes("/a")).toEqual(new Uint8Array([1]));
  });
  it("queues callbacks until they are delivered, in the order of changes, then of watches", () => {
    const seen: string[] = [];
    const other = client.child();
    client.watch("/a", (path) => seen.push(`1 ${path}`));
    other.watch("/a", (path) => seen.push(`2 ${path}`));
    expect([seen.length, service.pending()]).toEqual([0, 2]);
    expect(service.deliver()).toBe(2);
    client.write("/a/y", "");
    other.write("/a/x", "");
    other.write("/b", "");
    expect(seen).toEqual(["1 /a", "2 /a"]);
    seen.length = 0;
    client.deliver();
    expect(seen).toEqual(["1 /a/y", "2 /a/y", "1 /a/x", "2 /a/x"]);
    expect(service.pending()).toBe(0);
  });
  it("drops events equal to one still queued", () => {
    let seen = 0;
    client.watch("/a", () => seen++);
    for (let n = 0; n < 5; n++) client.write("/a/x", String(n));
    service.deliver();
    expect(seen).toBe(2);
  });
  it("delivers what callbacks cause, and stops at a limit", () => {
    let seen = 0;
    client.watch("/a", () => {
      seen++;
      client.write("/a", String(seen));
    });
    expect(service.deliver(50)).toBe(50);
    expect(service.pending()).toBe(1);
  });
  it("calls nobody back after the watch has ended", () => {
    let seen = 0;
    const end = client.watch("/a", () => seen++);
    const child = client.child();
    child.watch("/a", () => seen++);
    child.watch("@introduceDomain", () => seen++);
    end();
    end();
    child.close();
    client.write("/a", "");
    service.introduceDomain(1);
    service.deliver();
    expect(seen).toBe(0);
  });
  it("goes on after a callback that throws", () => {
    const seen: string[] = [];
    client.watch("/a", () => {
      throw new Error("faulty");
    });
    client.watch("/a", (path) => seen.push(path));
    expect(() => service.deliver()).toThrow("faulty");
    expect(service.deliver()).toBe(1);
    expect(seen).toEqual(["/a"]);
  });
  it("sees special events", () => {
    const seen: string[] = [];
    client.watch("@introduceDomain", (path) => seen.push(path));
    client.watch("@releaseDomain", (path) => seen.push(path));
    service.deliver();
    service.introduceDomain(4);
    service.domainShutdown(4);
    service.deliver();
    service.releaseDomain(4);
    service.deliver();
    expect(seen.slice(2)).toEqual(["@introduceDomain", "@releaseDomain", "@releaseDomain"]);
  });
  it("fires the watches of guests, and is told of theirs", () => {
    const guest = new Peer(service.introduceDomain(1));
    client.mkdir("/local/domain/1");
    client.setPermissions("/local/domain/1", [{ domid: 1, access: 0 }]);
    const seen: string[] = [];
    client.watch("/local/domain/1", (path) => seen.push(path));
    guest.watch("x", "t");
    guest.takeEvents();
    service.deliver();
    client.write("/local/domain/1/x", "1");
    expect(guest.takeEvents()).toEqual(["x t"]);
    guest.write("y", "2");
    expect(seen).toEqual(["/local/domain/1"]);
    service.deliver();
    expect(seen).toEqual(["/local/domain/1", "/local/domain/1/x", "/local/domain/1/y"]);
  });
  it("has transactions: all at once, nothing if the body throws, again on a conflict", () => {
    const seen: string[] = [];
    client.watch("/a", (path) => seen.push(path));
    service.deliver();
    const answer = client.transaction((t) => {
      t.write("/a/x", "1");
      expect(client.exists("/a/x")).toBe(false);
      expect(t.read("/a/x")).toBe("1");
      return 42;
    });
    expect([answer, client.read("/a/x")]).toEqual([42, "1"]);
    expect(() =>
      client.transaction((t) => {
        t.rm("/a");
        throw new Error("no");
      }),
    ).toThrow("no");
    let runs = 0;
    client.transaction((t) => {
      t.write("/a/x", `${t.read("/a/x")}+`);
      if (runs++ === 0) client.write("/a/x", "2");
    });
    expect([runs, client.read("/a/x")]).toEqual([2, "2+"]);
    service.deliver();
    expect(seen).toEqual(["/a", "/a/x"]);
  });
  it("gives a part of the store as an area", () => {
    const area = client.area("/dir");
    let changed = 0;
    const end = area.watch("state", () => changed++);
    service.deliver();
    area.write("state", "1");
    area.write("sub/key", "2");
    service.deliver();
    expect(changed).toBe(2);
    expect([
      area.path,
      area.read("state"),
      area.read("none"),
      area.list(),
      area.list("sub"),
      area.list("none"),
    ]).toEqual(["/dir", "1", undefined, ["state", "sub"], ["key"], []]);
    end();
    area.remove("state");
    area.remove("state");
    area.remove("not/there");
    service.deliver();
    expect([changed, area.read("state")]).toEqual([2, undefined]);
  });
});

describe("two services in one process", () => {
  it("share nothing", () => {
    const second = new XenStoreService();
    client.write("/a", "1");
    expect(second.client().exists("/a")).toBe(false);
    let seen = 0;
    second.client().watch("/a", () => seen++);
    expect([service.pending(), second.pending()]).toEqual([0, 1]);
  });
});
