/** The store against a simple model, and against its promise that committed transactions are serialisable. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { XenStoreError } from "../../../core/xenstore/errors.ts";
import type { Actor, Permission } from "../../../core/xenstore/permissions.ts";
import { Store, type StoreView } from "../../../core/xenstore/store.ts";
import { bytesOf, textOf } from "../../../core/xenstore/wire.ts";

const actors: readonly Actor[] = [0, 1, 2].map((domid) => ({ domid, privileged: domid === 0, target: undefined }));
const names = ["a", "b", "c"];
const path = fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: 3 }).map((parts) => `/${parts.join("/")}`);
const permissions = fc.array(fc.record({ domid: fc.nat(2), access: fc.nat(3) }), { minLength: 1, maxLength: 3 });

type Operation =
  | { readonly op: "read" | "list" | "mkdir" | "rm" | "permissions"; readonly path: string }
  | { readonly op: "write"; readonly path: string; readonly value: string }
  | { readonly op: "setPermissions"; readonly path: string; readonly permissions: readonly Permission[] };

const operation: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({ op: fc.constantFrom("read", "list", "mkdir", "rm", "permissions"), path }),
  fc.record({ op: fc.constant("write"), path, value: fc.constantFrom("", "1", "22", "333") }),
  fc.record({ op: fc.constant("setPermissions"), path, permissions }),
);

function perform(view: StoreView, actor: Actor, operation: Operation): unknown {
  try {
    switch (operation.op) {
      case "read":
        return textOf(view.read(actor, operation.path));
      case "list":
        return [...view.list(actor, operation.path)];
      case "permissions":
        return [...view.permissions(actor, operation.path)];
      case "write":
        return view.write(actor, operation.path, bytesOf(operation.value));
      case "setPermissions":
        return view.setPermissions(actor, operation.path, operation.permissions);
      default:
        return view[operation.op](actor, operation.path);
    }
  } catch (error) {
    if (error instanceof XenStoreError) return error.errno;
    throw error;
  }
}

/** The model: a tree of plain objects, walked from the root each time; no sharing, no transactions, no quotas. */
interface ModelNode {
  value: string;
  permissions: Permission[];
  readonly children: Map<string, ModelNode>;
}

class Model {
  readonly root: ModelNode = { value: "", permissions: [{ domid: 0, access: 0 }], children: new Map() };

  perform(domid: number, operation: Operation): unknown {
    const parts = operation.path.slice(1).split("/");
    const chain: ModelNode[] = [this.root];
    for (const part of parts) {
      const next = chain.at(-1)!.children.get(part);
      if (next === undefined) break;
      chain.push(next);
    }
    const last = chain.at(-1)!;
    const node = chain.length === parts.length + 1 ? last : undefined;
    const wants = { read: "r", list: "r", permissions: "r", write: "w", mkdir: "w", rm: "w", setPermissions: "o" }[
      operation.op
    ];
    const rights = this.rights(domid, last);
    const allowed = rights.includes(wants) || (node === undefined && wants === "o" && rights.includes("w"));
    if (!allowed) return "EACCES";
    switch (operation.op) {
      case "read":
        return node?.value ?? "ENOENT";
      case "list":
        return node === undefined ? "ENOENT" : [...node.children.keys()];
      case "permissions":
        return node?.permissions ?? "ENOENT";
      case "setPermissions":
        if (node === undefined) return "ENOENT";
        if (domid !== 0 && operation.permissions[0]!.domid !== node.permissions[0]!.domid) return "EPERM";
        node.permissions = [...operation.permissions];
        return undefined;
      case "rm":
        if (node === undefined) return chain.length === parts.length ? undefined : "ENOENT";
        chain.at(-2)!.children.delete(parts.at(-1)!);
        return undefined;
      case "write":
      case "mkdir": {
        let at = last;
        for (const part of parts.slice(chain.length - 1)) {
          const [first, ...rest] = at.permissions;
          const owner = domid === 0 ? first!.domid : domid;
          const made: ModelNode = {
            value: "",
            permissions: [{ domid: owner, access: first!.access }, ...rest],
            children: new Map(),
          };
          at.children.set(part, made);
          at = made;
        }
        if (operation.op === "write") at.value = operation.value;
        return undefined;
      }
    }
  }

  rights(domid: number, node: ModelNode): string {
    if (domid === 0 || node.permissions[0]!.domid === domid) return "rwo";
    const entry = node.permissions.slice(1).find((one) => one.domid === domid) ?? node.permissions[0]!;
    return ["", "r", "w", "rw"][entry.access]!;
  }
}

function dump(store: Store): string[] {
  return [...store.entries()].map(
    ([at, { data, permissions }]) => `${at} ${textOf(data)} ${JSON.stringify(permissions)}`,
  );
}

describe("the store", () => {
  it("does what the model does, directly and in a transaction that nobody disturbs", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(2), operation), { maxLength: 60 }), fc.boolean(), (steps, transactional) => {
        const store = new Store();
        const model = new Model();
        for (const actor of actors) {
          const opening: Operation = {
            op: "setPermissions",
            path: `/${names[actor.domid]!}`,
            permissions: [{ domid: actor.domid, access: 3 }],
          };
          for (const one of [{ op: "mkdir", path: opening.path } as const, opening]) {
            expect(perform(store, actors[0]!, one)).toEqual(model.perform(0, one));
          }
        }
        for (const [domid, one] of steps) {
          const actor = actors[domid]!;
          const before = dump(store);
          const expected = model.perform(domid, one);
          if (transactional) {
            const transaction = store.transaction(actor);
            expect(perform(transaction, actor, one)).toEqual(expected);
            expect(dump(store)).toEqual(before);
            transaction.commit();
          } else expect(perform(store, actor, one)).toEqual(expected);
          if (typeof expected === "string" && /^E[A-Z]+$/.test(expected)) expect(dump(store)).toEqual(before);
        }
        expect(store.inconsistencies()).toEqual([]);
      }),
      { numRuns: 400 },
    );
  });

  it("commits transactions as if they had run one after the other, in the order of their ends", () => {
    const step = fc.record({ who: fc.nat(3), what: operation, end: fc.nat(4) });
    let committed = 0;
    let refused = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 10, maxLength: 80 }), (steps) => {
        const store = new Store();
        const dom0 = actors[0]!;
        const serial = new Store();
        for (const one of names)
          for (const target of [store, serial]) target.write(dom0, `/${one}/${one}`, bytesOf("0"));
        const open = new Map<
          number,
          { transaction: ReturnType<Store["transaction"]>; log: { what: Operation; answer: unknown }[] }
        >();
        for (const { who, what, end } of steps) {
          if (who === 3) {
            // Somebody outside of any transaction.
            expect(perform(store, dom0, what)).toEqual(perform(serial, dom0, what));
            continue;
          }
          const current = open.get(who) ?? { transaction: store.transaction(dom0), log: [] };
          open.set(who, current);
          current.log.push({ what, answer: perform(current.transaction, dom0, what) });
          if (end > 0) continue;
          open.delete(who);
          try {
            current.transaction.commit();
          } catch (error) {
            expect((error as XenStoreError).errno).toBe("EAGAIN");
            refused++;
            continue;
          }
          committed++;
          for (const entry of current.log) expect(perform(serial, dom0, entry.what)).toEqual(entry.answer);
          expect(dump(store)).toEqual(dump(serial));
        }
        expect(dump(store)).toEqual(dump(serial));
        expect(store.inconsistencies()).toEqual([]);
      }),
      { numRuns: 400 },
    );
    expect(committed).toBeGreaterThan(50);
    expect(refused).toBeGreaterThan(20);
  });

  it("tells of every change, and of none for what failed", () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), (steps) => {
        const events: string[] = [];
        const store = new Store((event) => events.push(event.path));
        for (const one of steps) {
          const before = new Map(store.entries());
          events.length = 0;
          const answer = perform(store, actors[0]!, one);
          const after = new Map(store.entries());
          const changed = before.size !== after.size || [...after].some(([at, node]) => before.get(at) !== node);
          expect(events.length > 0).toBe(changed);
          if (one.op === "rm" && changed) expect(events).toHaveLength(before.size - after.size);
          if (changed) expect(events.at(-1)).toBe(one.path);
          if (typeof answer === "string" && answer.startsWith("E")) expect(changed).toBe(false);
        }
      }),
    );
  });
});
