/**
 * What each request of the protocol does (xenstore.txt): one function a type, from a request to the payload of its answer.
 * They throw XenStoreError to refuse.
 */
import { XENSTORE, XS } from "../abi/xs-wire.ts";
import { acknowledgement, type Connection } from "./connection.ts";
import { XenStoreError } from "./errors.ts";
import { domainPath, resolvePath } from "./path.ts";
import { formatPermission, parsePermission } from "./permissions.ts";
import type { XenStoreQuotas } from "./quota.ts";
import type { Store, StoreView } from "./store.ts";
import { reported, type Watches } from "./watches.ts";
import { bytesOf, joinStrings, type Message, splitStrings, textOf } from "./wire.ts";

/** What requests need of the service. */
export interface RequestHost {
  readonly store: Store;
  readonly watches: Watches;
  readonly quotas: XenStoreQuotas;
  domainExists(domid: number): boolean;
  isIntroduced(domid: number): boolean;
  requestIntroduction(domid: number, gfn: number, port: number): void;
  releaseDomain(domid: number): void;
  resumeDomain(domid: number): void;
  setTarget(domid: number, target: number): void;
  print(text: string): void;
}

/** A request under way. */
export interface Request {
  readonly host: RequestHost;
  readonly connection: Connection;
  readonly message: Message;
  /** The request's transaction, or the store itself. */
  readonly view: StoreView;
  /** To run once the answer is queued. */
  afterwards: (() => void) | undefined;
}

/** One type of request. */
export interface RequestType {
  /** For privileged connections only: EACCES for others. */
  readonly privileged: boolean;
  readonly perform: (request: Request) => Uint8Array;
}

/** First domain number that is no real domain: DOMID_FIRST_RESERVED of xen.h. */
const firstReservedDomain = 0x7ff0;

/** The request of a type; undefined for one that is not supported. */
export function requestType(type: number): RequestType | undefined {
  return requests.get(type);
}

/** A request that is answered by a payload of its own. */
function answer(type: number, perform: (request: Request) => Uint8Array, privileged = false): [number, RequestType] {
  return [type, { privileged, perform }];
}

/** A request that is answered by OK. */
function act(type: number, perform: (request: Request) => void, privileged = false): [number, RequestType] {
  return answer(
    type,
    (request) => {
      perform(request);
      return acknowledgement;
    },
    privileged,
  );
}

const requests: ReadonlyMap<number, RequestType> = new Map([
  answer(XS.READ, (request) => request.view.read(request.connection.actor, onlyPath(request))),

  act(XS.WRITE, (request) => {
    const { message, connection } = request;
    const end = message.payload.indexOf(0);
    if (end < 0) throw new XenStoreError("EINVAL");
    const path = resolvePath(connection.domid, textOf(message.payload, 0, end));
    request.view.write(connection.actor, path, message.payload.slice(end + 1));
  }),

  act(XS.MKDIR, (request) => request.view.mkdir(request.connection.actor, onlyPath(request))),

  act(XS.RM, (request) => request.view.rm(request.connection.actor, onlyPath(request))),

  answer(XS.DIRECTORY, (request) => {
    const names = joinStrings(request.view.list(request.connection.actor, onlyPath(request)));
    if (names.length > XENSTORE.PAYLOAD_MAX) throw new XenStoreError("E2BIG");
    return names;
  }),

  answer(XS.DIRECTORY_PART, (request) => {
    const [sent, offsetText] = strings(request, 2);
    const path = resolvePath(request.connection.domid, sent!);
    const offset = decimal(offsetText!, 0xffff_ffff);
    const node = request.view.listWithGeneration(request.connection.actor, path);
    const generation = `${node.generation}\0`;
    // Whole names from the offset on, as many as fit; an empty name after the last says that the list is complete.
    const space = XENSTORE.PAYLOAD_MAX - generation.length - 1;
    let skipped = 0;
    let part = "";
    let complete = true;
    for (const name of node.children) {
      if (skipped < offset) {
        skipped += name.length + 1;
        continue;
      }
      if (part.length + name.length + 1 > space) {
        complete = false;
        break;
      }
      part += `${name}\0`;
    }
    return bytesOf(generation + part + (complete ? "\0" : ""));
  }),

  answer(XS.GET_PERMS, (request) => {
    const permissions = request.view.permissions(request.connection.actor, onlyPath(request, true));
    const answer = joinStrings(permissions.map(formatPermission));
    if (answer.length > XENSTORE.PAYLOAD_MAX) throw new XenStoreError("E2BIG");
    return answer;
  }),

  act(XS.SET_PERMS, (request) => {
    const { host, connection } = request;
    const [sent, ...entries] = strings(request, 2);
    const path = resolvePath(connection.domid, sent!, true);
    if (!connection.actor.privileged && entries.length > host.quotas.permissions)
      throw new XenStoreError("ENOSPC", path);
    const permissions = entries.map(parsePermission);
    if (permissions.some(({ domid }) => !host.domainExists(domid))) throw new XenStoreError("ENOENT", path);
    request.view.setPermissions(connection.actor, path, permissions);
  }),

  act(XS.WATCH, (request) => {
    const { host, connection } = request;
    const { sent, path, token } = watchOf(request);
    if (host.watches.find(connection, path, token) !== undefined) throw new XenStoreError("EEXIST", path);
    if (!connection.actor.privileged && host.watches.count(connection) >= host.quotas.watches)
      throw new XenStoreError("E2BIG", path);
    if (sent.length + token.length + 2 > XENSTORE.PAYLOAD_MAX) throw new XenStoreError("EINVAL", path);
    const relative = !sent.startsWith("/") && !sent.startsWith("@");
    const watch = host.watches.add(connection, path, token, relative ? `${domainPath(connection.domid)}/` : "");
    request.afterwards = () => connection.deliverEvent(watch, reported(watch, path));
  }),

  act(XS.UNWATCH, (request) => {
    const { path, token } = watchOf(request);
    const watch = request.host.watches.find(request.connection, path, token);
    if (watch === undefined) throw new XenStoreError("ENOENT", path);
    request.host.watches.remove(watch);
  }),

  act(XS.RESET_WATCHES, ({ host, connection }) => {
    host.watches.clear(connection);
    connection.transactions.clear();
  }),

  answer(XS.TRANSACTION_START, ({ host, connection, message }) => {
    if (message.txId !== 0) throw new XenStoreError("EBUSY");
    if (!connection.actor.privileged && connection.transactions.size >= host.quotas.transactions)
      throw new XenStoreError("ENOSPC");
    const id = connection.transactionId();
    connection.transactions.set(id, host.store.transaction(connection.actor));
    return joinStrings([String(id)]);
  }),

  act(XS.TRANSACTION_END, (request) => {
    const { connection, message } = request;
    const [how] = strings(request, 1);
    if (how !== "T" && how !== "F") throw new XenStoreError("EINVAL");
    const transaction = connection.transactions.get(message.txId);
    if (transaction === undefined) throw new XenStoreError("ENOENT");
    connection.transactions.delete(message.txId);
    if (how === "T") transaction.commit();
  }),

  answer(XS.GET_DOMAIN_PATH, (request) => joinStrings([domainPath(decimal(strings(request, 1)[0]!, 0xffff))])),

  answer(
    XS.IS_DOMAIN_INTRODUCED,
    (request) => joinStrings([request.host.isIntroduced(decimal(strings(request, 1)[0]!, 0xffff)) ? "T" : "F"]),
    true,
  ),

  act(
    XS.INTRODUCE,
    (request) => {
      const [domid, gfn, port] = strings(request, 3);
      // The frame is a signed decimal in the protocol; a negative one is no frame of anybody's.
      request.host.requestIntroduction(
        realDomain(domid!),
        decimal(gfn!, Number.MAX_SAFE_INTEGER),
        decimal(port!, 0xffff_ffff),
      );
    },
    true,
  ),

  act(XS.RELEASE, (request) => request.host.releaseDomain(realDomain(strings(request, 1)[0]!)), true),

  act(XS.RESUME, (request) => request.host.resumeDomain(realDomain(strings(request, 1)[0]!)), true),

  act(
    XS.SET_TARGET,
    (request) => {
      const [domid, target] = strings(request, 2);
      request.host.setTarget(realDomain(domid!), realDomain(target!));
    },
    true,
  ),

  answer(
    XS.CONTROL,
    (request) => {
      const { host } = request;
      const [command, ...parameters] = strings(request, 1);
      switch (command) {
        case "check": {
          const found = host.store.inconsistencies();
          for (const sentence of found) host.print(sentence);
          if (found.length > 0) throw new XenStoreError("EIO");
          return acknowledgement;
        }
        case "print":
          if (parameters.length === 0) throw new XenStoreError("EINVAL");
          host.print(parameters[0]!);
          return acknowledgement;
        case "quota":
          if (parameters.length > 0) throw new XenStoreError("EINVAL");
          return joinStrings([
            Object.entries(host.quotas)
              .map(([name, limit]) => `${name}: ${limit}\n`)
              .join(""),
          ]);
        case "help":
          return joinStrings(["check\nhelp\nprint <string>\nquota\n"]);
        default:
          throw new XenStoreError("EINVAL", command);
      }
    },
    true,
  ),
]);

/** The strings of a payload, at least so many. */
function strings(request: Request, atLeast: number): string[] {
  const split = splitStrings(request.message.payload);
  if (split.strings.length < atLeast) throw new XenStoreError("EINVAL");
  return split.strings;
}

/** The payload as one path and nothing else. */
function onlyPath(request: Request, special = false): string {
  const { payload } = request.message;
  if (payload.length === 0 || payload.indexOf(0) !== payload.length - 1) throw new XenStoreError("EINVAL");
  return resolvePath(request.connection.domid, textOf(payload, 0, payload.length - 1), special);
}

function watchOf(request: Request): { sent: string; path: string; token: string } {
  const [sent, token] = strings(request, 2);
  return { sent: sent!, token: token!, path: resolvePath(request.connection.domid, sent!, true) };
}

function decimal(text: string, max: number): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= max)) throw new XenStoreError("EINVAL", text.slice(0, 20));
  return value;
}

function realDomain(text: string): number {
  const domid = decimal(text, firstReservedDomain - 1);
  if (domid === 0) throw new XenStoreError("EINVAL", text);
  return domid;
}
