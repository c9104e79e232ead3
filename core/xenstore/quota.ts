/**
 * What one unprivileged domain may use of the store. Defaults are those of the C daemon; domain 0 and other privileged
 * connections have no limits but the protocol's.
 */

/** Limits of a domU; each is the largest amount allowed. */
export interface XenStoreQuotas {
  /** Nodes owned: more is ENOSPC. */
  readonly nodes: number;
  /** Watches: more is E2BIG. */
  readonly watches: number;
  /** Transactions open at once: more is ENOSPC. */
  readonly transactions: number;
  /** Nodes touched in one transaction: more is ENOSPC. */
  readonly transactionNodes: number;
  /** Entries of a node's permissions set by the domain: more is ENOSPC. */
  readonly permissions: number;
  /** Bytes of a node: header, permissions, value and names of children; this many or more is ENOSPC. */
  readonly nodeSize: number;
  /** Answers and caused watch events not yet taken; at this many no further request is read. */
  readonly outstanding: number;
}

/** The C daemon's defaults. */
export const defaultQuotas: XenStoreQuotas = Object.freeze({
  nodes: 1000,
  watches: 128,
  transactions: 10,
  transactionNodes: 1024,
  permissions: 5,
  nodeSize: 2048,
  outstanding: 20,
});
