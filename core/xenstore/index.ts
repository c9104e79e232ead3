/** XenStore: the store, its service, the ring of a domain, and the client inside the process. */
export { LocalEvents, type WatchCallback, XenStoreClient, XenStoreOperations, XenStoreTransaction } from "./client.ts";
export { Connection } from "./connection.ts";
export * from "./errors.ts";
export { domainPath } from "./path.ts";
export { Access, type Actor, formatPermission, type Permission, parsePermission } from "./permissions.ts";
export * from "./quota.ts";
export { serverFeatures, XenStoreRing } from "./ring.ts";
export * from "./service.ts";
export { Store, type StoreNode, StoreTransaction } from "./store.ts";
