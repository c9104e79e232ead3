/** What was observed of the C daemon, case by case, over the wire. */
import { beforeEach, describe, expect, it } from "vitest";
import { XENSTORE, XS } from "../../../core/abi/xs-wire.ts";
import { XenStoreService } from "../../../core/xenstore/service.ts";
import { encodeMessage } from "../../../core/xenstore/wire.ts";
import { Peer } from "./peer.ts";

let service: XenStoreService;
let dom0: Peer;
let guest: Peer;
let other: Peer;

beforeEach(() => {
  service = new XenStoreService();
  dom0 = new Peer(service.connect(0));
  for (const domid of [1, 2]) {
    dom0.mkdir(`/local/domain/${domid}`);
    service.introduceDomain(domid);
    dom0.setPerms(`/local/domain/${domid}`, `n${domid}`);
  }
  guest = new Peer(service.connectionOf(1)!);
  other = new Peer(service.connectionOf(2)!);
});

describe("quotas of a domU", () => {
  it("nodes: 1000, then ENOSPC", () => {
    // Its own directory is one of them.
    for (let n = 0; n < 999; n++) expect(guest.mkdir(`d/${n % 30}/${n}`)).toMatch(/^(OK|ENOSPC)$/);
    expect(service.store.nodesOwned(1)).toBe(1000);
    expect(guest.mkdir("one-more")).toBe("ENOSPC");
    expect(guest.rm("d/3")).toBe("OK");
    expect(guest.mkdir("one-more")).toBe("OK");
    expect(service.store.inconsistencies()).toEqual([]);
  });
  it("nodes: a transaction cannot pass the quota either", () => {
    for (let n = 0; n < 33; n++) for (let m = 0; m < 29; m++) guest.mkdir(`d/${n}/${m}`);
    const free = 1000 - service.store.nodesOwned(1);
    const tx = guest.start();
    for (let n = 0; n < free; n++) expect(guest.mkdir(`t${n}`, tx)).toBe("OK");
    expect(guest.mkdir("over", tx)).toBe("ENOSPC");
    expect(guest.mkdir("d/0/aside")).toBe("OK");
    expect(guest.end(tx)).toBe("ENOSPC");
    expect(service.store.nodesOwned(1)).toBe(1000 - free + 1);
  });
  it("node size: 2048, names of children included, then ENOSPC", () => {
    expect(guest.write("big", "x".repeat(2048))).toBe("ENOSPC");
    expect(guest.read("big")).toBe("ENOENT");
    expect(guest.write("big", "x".repeat(2015))).toBe("OK");
    expect(guest.write("big", "x".repeat(2016))).toBe("ENOSPC");
    expect(guest.write("big/child", "1")).toBe("ENOSPC");
    expect(dom0.write("/local/domain/1/big", "x".repeat(4000))).toBe("OK");
  });
  it("watches: 128, then E2BIG", () => {
    for (let n = 0; n < 128; n++) expect(guest.watch("data", `t${n}`)).toBe("OK");
    expect(guest.watch("data", "more")).toBe("E2BIG");
    expect(guest.watch("data", "t5")).toBe("EEXIST");
    expect(guest.unwatch("data", "t5")).toBe("OK");
    expect(guest.watch("data", "more")).toBe("OK");
  });
  it("transactions: 10, then ENOSPC", () => {
    const open = Array.from({ length: 10 }, () => guest.start());
    expect(guest.ask(XS.TRANSACTION_START, "\0")).toBe("ENOSPC");
    expect(guest.end(open[3]!)).toBe("OK");
    expect(guest.start()).toBeGreaterThan(10);
  });
  it("nodes of a transaction: 1024, then ENOSPC; it can still be ended", () => {
    const tx = guest.start();
    let seen = 0;
    while (guest.read(`missing${seen}`, tx) === "ENOENT") seen++;
    expect(seen).toBe(1023); // and the domain's directory
    expect(guest.end(tx)).toBe("OK");
  });
  it("permissions of a node: 5, then ENOSPC", () => {
    guest.mkdir("node");
    expect(guest.setPerms("node", "n1", "r0", "r1", "r2", "b0")).toBe("OK");
    expect(guest.setPerms("node", "n1", "r0", "r1", "r2", "b0", "b2")).toBe("ENOSPC");
    expect(dom0.setPerms("/local/domain/1/node", "n1", "r0", "r1", "r2", "b0", "b2")).toBe("OK");
  });
  it("outstanding requests: 20, then none is read until answers are taken", () => {
    const read = encodeMessage({ type: XS.READ, reqId: 1, txId: 0, payload: new Uint8Array([0x78, 0]) }, true);
    const requests = new Uint8Array(read.length * 30);
    for (let n = 0; n < 30; n++) requests.set(read, n * read.length);
    const taken = guest.connection.feed(requests);
    expect(taken).toBe(20 * read.length);
    expect(guest.connection.blocked).toBe(true);
    expect(guest.drain()).toHaveLength(20);
    expect(guest.connection.feed(requests, taken)).toBe(10 * read.length);
    expect(guest.drain()).toHaveLength(10);
  });
  it("outstanding: events caused for another domain count until that one takes them", () => {
    dom0.setPerms("/local/domain/1", "n1", "r2");
    expect(other.watch("/local/domain/1", "w")).toBe("OK");
    other.takeEvents();
    for (let n = 0; n < 20; n++) expect(guest.write(`n${n}`, "")).toBe("OK");
    let woken = 0;
    guest.connection.attention = () => woken++;
    expect(guest.connection.blocked).toBe(true);
    expect(other.takeEvents()).toHaveLength(20);
    expect(guest.connection.blocked).toBe(false);
    expect(woken).toBe(1);
  });
  it("do not bind domain 0", () => {
    const tx = dom0.start();
    for (let n = 0; n < 1100; n++) dom0.write(`/x/${n}`, "", tx);
    expect(dom0.end(tx)).toBe("OK");
    for (let n = 0; n < 140; n++) expect(dom0.watch("/", `t${n}`)).toBe("OK");
    expect(Array.from({ length: 30 }, () => dom0.start())).toHaveLength(30);
  });
});

describe("watches", () => {
  it("a duplicate is EEXIST, another token is not", () => {
    expect(guest.watch("a", "t")).toBe("OK");
    expect(guest.watch("a", "t")).toBe("EEXIST");
    expect(guest.watch("a", "u")).toBe("OK");
    expect(guest.watch("/local/domain/1/a", "t")).toBe("EEXIST");
  });
  it("unwatching what is not watched is ENOENT", () => {
    expect(guest.unwatch("a", "t")).toBe("ENOENT");
    guest.watch("a", "t");
    expect(guest.unwatch("a", "u")).toBe("ENOENT");
    expect(guest.unwatch("a", "t")).toBe("OK");
  });
  it("fire once when set, after the answer, with the path as given", () => {
    const answers = guest.exchange(XS.WATCH, "not/there\0tok\0");
    expect(answers.map(({ type }) => type)).toEqual([XS.WATCH, XS.WATCH_EVENT]);
    expect(guest.takeEvents()).toEqual(["not/there tok"]);
    expect(answers[1]).toMatchObject({ reqId: 0, txId: 0 });
  });
  it("match children, report the changed path, relative if set so", () => {
    guest.watch("dir", "rel");
    guest.watch("/local/domain/1/dir", "abs");
    guest.watch("dirt", "no");
    guest.takeEvents();
    guest.write("dir/a/b", "1");
    expect(guest.takeEvents()).toEqual(["dir/a/b rel", "/local/domain/1/dir/a/b abs"]);
    dom0.write("/local/domain/1/dir", "2");
    expect(guest.takeEvents()).toEqual(["dir rel", "/local/domain/1/dir abs"]);
    dom0.mkdir("/local/domain/1/dir");
    expect(guest.takeEvents()).toEqual([]);
    dom0.setPerms("/local/domain/1/dir/a", "n1", "r2");
    expect(guest.takeEvents()).toEqual(["dir/a rel", "/local/domain/1/dir/a abs"]);
  });
  it("of a path report that path when a parent is removed, if it was there", () => {
    guest.write("dir/sub/leaf", "1");
    guest.watch("dir/sub/leaf", "leaf");
    guest.watch("dir/sub/none", "none");
    guest.watch("dir", "dir");
    guest.takeEvents();
    dom0.rm("/local/domain/1/dir");
    expect(guest.takeEvents()).toEqual(["dir/sub/leaf leaf", "dir dir"]);
  });
  it("fire on commit only, before the answer to it", () => {
    guest.watch("dir", "w");
    guest.takeEvents();
    const tx = guest.start();
    guest.write("dir/a", "1", tx);
    guest.write("dir/a", "2", tx);
    guest.write("dir/b", "1", tx);
    expect(guest.takeEvents()).toEqual([]);
    const answers = guest.exchange(XS.TRANSACTION_END, "T\0", tx);
    expect(answers.map(({ type }) => type)).toEqual([XS.WATCH_EVENT, XS.WATCH_EVENT, XS.TRANSACTION_END]);
    expect(guest.takeEvents()).toEqual(["dir/a w", "dir/b w"]);
    const aborted = guest.start();
    guest.write("dir/c", "1", aborted);
    guest.end(aborted, false);
    expect(guest.takeEvents()).toEqual([]);
  });
  it("do not tell those who may not read the node", () => {
    expect(other.watch("/local/domain/1/secret", "w")).toBe("OK");
    other.takeEvents();
    guest.write("secret/x", "1");
    expect(other.takeEvents()).toEqual([]);
    guest.setPerms("secret", "n1", "r2");
    expect(other.takeEvents()).toEqual(["/local/domain/1/secret w"]);
    guest.write("secret", "1");
    expect(other.takeEvents()).toEqual(["/local/domain/1/secret w"]);
    guest.setPerms("secret", "n1");
    expect(other.takeEvents()).toEqual(["/local/domain/1/secret w"]);
    guest.write("secret", "2");
    expect(other.takeEvents()).toEqual([]);
  });
  it("@introduceDomain and @releaseDomain are for the privileged, and for whom SET_PERMS allows", () => {
    expect(guest.watch("@introduceDomain", "in")).toBe("OK");
    expect(guest.watch("@releaseDomain", "out")).toBe("OK");
    dom0.watch("@introduceDomain", "in");
    dom0.watch("@releaseDomain", "out");
    guest.takeEvents();
    dom0.takeEvents();
    service.introduceDomain(7);
    service.releaseDomain(7);
    expect(dom0.takeEvents()).toEqual(["@introduceDomain in", "@releaseDomain out"]);
    expect(guest.takeEvents()).toEqual([]);
    expect(guest.setPerms("@releaseDomain", "n0", "r1")).toBe("EACCES");
    expect(dom0.setPerms("@releaseDomain", "n0", "r1")).toBe("OK");
    expect(dom0.getPerms("@releaseDomain")).toBe("n0 r1");
    dom0.takeEvents();
    guest.takeEvents();
    service.introduceDomain(7);
    service.releaseDomain(7);
    expect(guest.takeEvents()).toEqual(["@releaseDomain out"]);
    expect(dom0.setPerms("@nothing", "n0")).toBe("EINVAL");
  });
  it("that are equal and unread are sent once", () => {
    guest.watch("a", "w");
    guest.takeEvents();
    for (let n = 0; n < 50; n++) dom0.write("/local/domain/1/a", String(n));
    expect(guest.takeEvents()).toEqual(["a w"]);
  });
  it("go away with RESET_WATCHES, and transactions too", () => {
    guest.watch("a", "w");
    const tx = guest.start();
    expect(guest.ask(XS.RESET_WATCHES, "\0")).toBe("OK");
    guest.takeEvents();
    guest.write("a", "1");
    expect(guest.takeEvents()).toEqual([]);
    expect(guest.end(tx)).toBe("ENOENT");
    expect(guest.watch("a", "w")).toBe("OK");
  });
});

describe("transactions", () => {
  it("nested: EBUSY", () => {
    expect(guest.ask(XS.TRANSACTION_START, "\0", guest.start())).toBe("EBUSY");
  });
  it("unknown: ENOENT", () => {
    expect(guest.end(99)).toBe("ENOENT");
    expect(guest.read("a", 99)).toBe("ENOENT");
    const tx = guest.start();
    expect(other.read("a", tx)).toBe("ENOENT");
    guest.end(tx);
    expect(guest.end(tx)).toBe("ENOENT");
  });
  it("neither T nor F: EINVAL", () => {
    expect(guest.ask(XS.TRANSACTION_END, "X\0", guest.start())).toBe("EINVAL");
  });
  it("an unrelated write during a transaction: it commits", () => {
    guest.write("a", "1");
    guest.write("b", "1");
    const tx = guest.start();
    expect(guest.read("a", tx)).toBe("1");
    expect(guest.write("a", "2", tx)).toBe("OK");
    expect(guest.write("b", "2")).toBe("OK");
    expect(guest.read("a")).toBe("1");
    expect(guest.end(tx)).toBe("OK");
    expect(guest.read("a")).toBe("2");
  });
  it("a read-only transaction whose reads changed: EAGAIN", () => {
    guest.write("a", "1");
    const tx = guest.start();
    expect(guest.read("a", tx)).toBe("1");
    guest.write("a", "2");
    expect(guest.read("a", tx)).toBe("1");
    expect(guest.end(tx)).toBe("EAGAIN");
    expect(guest.end(tx)).toBe("ENOENT");
  });
  it("a directory that was listed and got a child: EAGAIN", () => {
    guest.write("d/a", "1");
    const tx = guest.start();
    expect(guest.directory("d", tx)).toEqual(["a"]);
    guest.write("d/b", "1");
    expect(guest.end(tx)).toBe("EAGAIN");
  });
  it("what was missing and has come: EAGAIN", () => {
    const tx = guest.start();
    expect(guest.read("late", tx)).toBe("ENOENT");
    guest.write("late", "1");
    expect(guest.end(tx)).toBe("EAGAIN");
  });
  it("two that write the same node: the second gets EAGAIN", () => {
    guest.write("a", "0");
    const [one, two] = [guest.start(), guest.start()];
    guest.write("a", "1", one);
    guest.write("a", "2", two);
    expect(guest.end(two)).toBe("OK");
    expect(guest.end(one)).toBe("EAGAIN");
    expect(guest.read("a")).toBe("2");
  });
});

describe("nodes", () => {
  it("RM of a missing leaf is OK, with a missing parent ENOENT, of the root EINVAL", () => {
    expect(guest.rm("leaf")).toBe("OK");
    expect(guest.rm("no/leaf")).toBe("ENOENT");
    expect(dom0.rm("/")).toBe("EINVAL");
    expect(guest.rm("/")).toBe("EINVAL");
  });
  it("WRITE and MKDIR create parents; MKDIR leaves a value alone; RM takes everything below", () => {
    expect(guest.write("a/b/c", "v\0w")).toBe("OK");
    expect(guest.read("a/b/c")).toBe("v\0w");
    expect(guest.read("a/b")).toBe("");
    expect(guest.mkdir("a/b/c")).toBe("OK");
    expect(guest.read("a/b/c")).toBe("v\0w");
    expect(guest.rm("a")).toBe("OK");
    expect(guest.read("a/b/c")).toBe("ENOENT");
    expect(guest.directory(".")).toEqual(["EINVAL"]);
    expect(guest.directory("/local/domain/1")).toEqual([]);
  });
  it("a DIRECTORY answer above 4096 is E2BIG, DIRECTORY_PART gives it in parts", () => {
    const names = Array.from({ length: 300 }, (_, n) => `name-of-a-child-${n}`);
    for (const name of names) dom0.mkdir(`/big/${name}`);
    expect(dom0.ask(XS.DIRECTORY, "/big\0")).toBe("E2BIG");
    const got: string[] = [];
    const generations = new Set<string>();
    for (let offset = 0, more = true; more; ) {
      const [answer] = dom0.exchange(XS.DIRECTORY_PART, `/big\0${offset}\0`);
      const text = String.fromCharCode(...answer!.payload);
      expect(text.length).toBeLessThanOrEqual(4096);
      const [generation, ...part] = text.split("\0");
      generations.add(generation!);
      more = !text.endsWith("\0\0");
      for (const name of part.filter((one) => one !== "")) {
        got.push(name);
        offset += name.length + 1;
      }
    }
    expect(got).toEqual(names);
    expect(generations.size).toBe(1);
    expect(guest.ask(XS.DIRECTORY_PART, "/big\0" + "0\0")).toBe("EACCES");
    expect(dom0.ask(XS.DIRECTORY_PART, "/big\0x\0")).toBe("EINVAL");
    expect(dom0.ask(XS.DIRECTORY_PART, "/big\0" + "999999\0")).toMatch(/^\d+\0$/);
  });
  it("paths: 3072 absolute and 2048 relative are too long, one less is not", () => {
    const long = (length: number, start: string): string =>
      (start + "x/".repeat(2000)).slice(0, length - 1).concat("y");
    const abs = (length: number): string => long(length, "/");
    expect(dom0.read(abs(3071))).toBe("ENOENT");
    expect(dom0.read(abs(3072))).toBe("EINVAL");
    expect(guest.read(long(2047, ""))).toBe("ENOENT");
    expect(guest.read(long(2048, ""))).toBe("EINVAL");
  });
  it.each(["", "/a/", "//a", "/a//b", "a//b", "/a b", "/a.b", "/ä", "@a", "/a\x01"])("path %j is EINVAL", (path) => {
    expect(dom0.read(path)).toBe("EINVAL");
  });
  it("relative paths are those of /local/domain/N/, for domain 0 too", () => {
    guest.write("x", "1");
    expect(dom0.read("/local/domain/1/x")).toBe("1");
    dom0.write("y", "2");
    expect(dom0.read("/local/domain/0/y")).toBe("2");
  });
});

describe("permissions", () => {
  it("SET_PERMS naming a dead domain is ENOENT", () => {
    guest.mkdir("a");
    expect(guest.setPerms("a", "n1", "r9")).toBe("ENOENT");
    expect(dom0.setPerms("/local/domain/1/a", "n9")).toBe("ENOENT");
  });
  it("a domU that changes a node's owner gets EPERM", () => {
    guest.mkdir("a");
    expect(guest.setPerms("a", "n2")).toBe("EPERM");
    expect(dom0.setPerms("/local/domain/1/a", "n2")).toBe("OK");
    expect(guest.setPerms("a", "n1")).toBe("EACCES");
  });
  it("entries that make no sense are EINVAL", () => {
    guest.mkdir("a");
    for (const entry of ["x1", "r", "r-1", "r99999", ""]) expect(guest.setPerms("a", entry)).toBe("EINVAL");
    expect(guest.ask(XS.SET_PERMS, "a\0")).toBe("EINVAL");
  });
  it("read, write, both, none; for one domain and for the others", () => {
    const path = "/local/domain/1/p";
    guest.write(path, "1");
    const attempts = (): string => `${other.read(path)} ${other.write(path, "1")}`;
    expect(attempts()).toBe("EACCES EACCES");
    guest.setPerms(path, "n1", "r2");
    expect(attempts()).toBe("1 EACCES");
    guest.setPerms(path, "n1", "w2");
    expect(attempts()).toBe("EACCES OK");
    guest.setPerms(path, "n1", "b2");
    expect(attempts()).toBe("1 OK");
    guest.setPerms(path, "b1");
    expect(attempts()).toBe("1 OK");
    guest.setPerms(path, "b1", "n2");
    expect(attempts()).toBe("EACCES EACCES");
    expect(other.setPerms(path, "b2")).toBe("EACCES");
  });
  it("a new node inherits its parent's; a domU that makes it owns it, domain 0 leaves the owner", () => {
    dom0.mkdir("/local/domain/1/dir");
    dom0.setPerms("/local/domain/1/dir", "b0", "r1", "w2");
    dom0.write("/local/domain/1/dir/a/b", "");
    expect(dom0.getPerms("/local/domain/1/dir/a/b")).toBe("b0 r1 w2");
    expect(other.write("/local/domain/1/dir/c/d", "")).toBe("OK");
    expect(dom0.getPerms("/local/domain/1/dir/c")).toBe("b2 r1 w2");
    guest.write("own", "");
    expect(guest.getPerms("own")).toBe("n1");
  });
  it("what is missing below the unreadable is EACCES, not ENOENT", () => {
    expect(other.read("/local/domain/1/nothing")).toBe("EACCES");
    expect(guest.read("nothing")).toBe("ENOENT");
    expect(guest.write("/tool/x", "1")).toBe("EACCES");
    expect(guest.rm("/local/domain/2")).toBe("EACCES");
  });
  it("SET_TARGET gives all rights of the target, until that is released", () => {
    guest.write("a", "1");
    expect(other.read("/local/domain/1/a")).toBe("EACCES");
    expect(dom0.ask(XS.SET_TARGET, "2\0" + "1\0")).toBe("OK");
    expect(other.read("/local/domain/1/a")).toBe("1");
    expect(other.write("/local/domain/1/a", "2")).toBe("OK");
    expect(dom0.ask(XS.SET_TARGET, "2\0" + "9\0")).toBe("ENOENT");
    expect(dom0.ask(XS.RELEASE, "1\0")).toBe("OK");
    expect(other.read("/local/domain/1/a")).toBe("EACCES");
  });
  it("a destroyed domain leaves no rights behind", () => {
    guest.write("a", "1");
    dom0.setPerms("/local/domain/1/a", "n0", "r1");
    service.destroyDomain(1);
    expect(dom0.getPerms("/local/domain/1")).toBe("n0");
    expect(dom0.getPerms("/local/domain/1/a")).toBe("n0");
    expect(service.store.nodesOwned(1)).toBe(0);
    expect(service.store.inconsistencies()).toEqual([]);
  });
});

describe("domains", () => {
  it("requests for the privileged only are EACCES for others", () => {
    for (const type of [XS.CONTROL, XS.INTRODUCE, XS.RELEASE, XS.IS_DOMAIN_INTRODUCED, XS.RESUME, XS.SET_TARGET]) {
      expect(guest.ask(type, "1\0" + "1\0" + "1\0")).toBe("EACCES");
    }
  });
  it("unknown requests are ENOSYS, the newer ones too", () => {
    for (const type of [XS.WATCH_EVENT, XS.ERROR, 20, 23, 24, 25, 26, 1000, 0xffff, 0xffff_ffff]) {
      expect(dom0.ask(type, "\0")).toBe("ENOSYS");
    }
  });
  it("GET_DOMAIN_PATH and IS_DOMAIN_INTRODUCED", () => {
    expect(guest.ask(XS.GET_DOMAIN_PATH, "5\0")).toBe("/local/domain/5");
    expect(guest.ask(XS.GET_DOMAIN_PATH, "x\0")).toBe("EINVAL");
    expect(dom0.ask(XS.IS_DOMAIN_INTRODUCED, "1\0")).toBe("T");
    expect(dom0.ask(XS.IS_DOMAIN_INTRODUCED, "5\0")).toBe("F");
    expect(dom0.ask(XS.IS_DOMAIN_INTRODUCED, "0\0")).toBe("T");
  });
  it("INTRODUCE asks the host, RELEASE drops connection, watches and transactions", () => {
    expect(dom0.ask(XS.INTRODUCE, "5\0" + "100\0" + "3\0")).toBe("ENOSYS");
    const asked: number[][] = [];
    const released: number[] = [];
    const hosted: XenStoreService = new XenStoreService({
      host: {
        introduce: (domid, gfn, port) => {
          asked.push([domid, gfn, port]);
          hosted.introduceDomain(domid);
        },
        released: (domid) => released.push(domid),
      },
    });
    const xl = new Peer(hosted.connect(0));
    expect(xl.ask(XS.INTRODUCE, "5\0" + "100\0" + "3\0")).toBe("OK");
    expect(asked).toEqual([[5, 100, 3]]);
    for (const domid of ["0", "32752", "-1", "x"])
      expect(xl.ask(XS.INTRODUCE, `${domid}\0${"1\0"}${"1\0"}`)).toBe("EINVAL");
    const five = new Peer(hosted.connectionOf(5)!);
    five.watch("@releaseDomain", "t");
    expect(xl.ask(XS.RELEASE, "5\0")).toBe("OK");
    expect(xl.ask(XS.RELEASE, "5\0")).toBe("ENOENT");
    expect(released).toEqual([5]);
    expect(five.connection.closed).toBe(true);
    expect(five.connection.feed(new Uint8Array(16))).toBe(0);
    expect(hosted.watches.count(five.connection)).toBe(0);
  });
  it("a shutdown is told once, until RESUME", () => {
    dom0.watch("@releaseDomain", "t");
    dom0.takeEvents();
    service.domainShutdown(1);
    expect(dom0.takeEvents()).toHaveLength(1);
    service.domainShutdown(1);
    expect(dom0.takeEvents()).toHaveLength(0);
    expect(dom0.ask(XS.RESUME, "1\0")).toBe("OK");
    service.domainShutdown(1);
    expect(dom0.takeEvents()).toHaveLength(1);
    expect(dom0.ask(XS.RESUME, "9\0")).toBe("ENOENT");
  });
  it("CONTROL: check, print, quota, help; EINVAL for the rest", () => {
    const printed: string[] = [];
    const xl = new Peer(new XenStoreService({ host: { print: (text) => printed.push(text) } }).connect(0));
    expect(xl.ask(XS.CONTROL, "check\0")).toBe("OK");
    expect(xl.ask(XS.CONTROL, "print\0hello\0")).toBe("OK");
    expect(printed).toEqual(["hello"]);
    expect(xl.ask(XS.CONTROL, "quota\0")).toContain("nodes: 1000\n");
    expect(xl.ask(XS.CONTROL, "help\0")).toContain("check");
    expect(xl.ask(XS.CONTROL, "live-update\0")).toBe("EINVAL");
    expect(xl.ask(XS.CONTROL, "")).toBe("EINVAL");
  });
});

describe("the wire", () => {
  it("a payload above 4096 closes the connection, with the ring's error 3", () => {
    const header = new DataView(new ArrayBuffer(16));
    header.setUint32(0, XS.WRITE, true);
    header.setUint32(12, 4097, true);
    guest.watch("a", "w");
    guest.drain();
    guest.connection.feed(new Uint8Array(header.buffer));
    expect(guest.connection.closed).toBe(true);
    expect(guest.connection.error).toBe(XENSTORE.ERROR_PROTO);
    expect(service.watches.count(guest.connection)).toBe(0);
    expect(dom0.write("/local/domain/1/a", "1")).toBe("OK");
  });
  it("a payload of 4096 is fine", () => {
    expect(dom0.write("/x", "v".repeat(4093))).toBe("OK");
    expect(dom0.read("/x")).toHaveLength(4093);
  });
  it.each([
    ["READ without NUL", XS.READ, "a"],
    ["READ of two", XS.READ, "a\0b\0"],
    ["READ of nothing", XS.READ, ""],
    ["WRITE without NUL", XS.WRITE, "a"],
    ["WATCH without token", XS.WATCH, "a\0"],
    ["WATCH with open token", XS.WATCH, "a\0t"],
    ["DIRECTORY_PART without offset", XS.DIRECTORY_PART, "a\0"],
    ["TRANSACTION_END without argument", XS.TRANSACTION_END, ""],
  ])("%s is EINVAL", (_, type, payload) => {
    expect(guest.ask(type, payload)).toBe("EINVAL");
  });
  it("messages may come in any pieces, in either byte order", () => {
    for (const littleEndian of [true, false]) {
      const connection = service.connect(0, { littleEndian });
      const peer = new Peer(connection);
      peer.write("/pieces", "1");
      const request = encodeMessage(
        { type: XS.READ, reqId: 7, txId: 0, payload: new TextEncoder().encode("/pieces\0") },
        littleEndian,
      );
      for (const byte of request) expect(connection.feed(new Uint8Array([byte]))).toBe(1);
      expect(peer.drain()).toEqual([{ type: XS.READ, reqId: 7, txId: 0, payload: new Uint8Array([0x31]) }]);
    }
  });
});
