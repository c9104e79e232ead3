/**
 * Which domains their cap or budget holds back at a moment.
 *
 * Each capped domain has an account that grows at its rate (the cap; of vCPUs with a budget, the budgets of those that want to run) and shrinks by the
 * CPU time that it gets; it never holds more than the rate gives in SPAN. While the account is below that, the domain has had all that it may have, and its
 * vCPUs wait because of the cap. So a capped domain that gets less than its cap counts as waiting for just the time that it is short of.
 * Invariant: accounts are brought up to date at the domain's own events only; `next` is when the first waiting domain's account is full.
 */
import type { Recording } from "../recording.ts";
import { type Claim, claimOf } from "./entitlement.ts";

/** Capped domains times events up to which accounts are kept; above, nobody is held back. */
const MOST_WORK = 3e8;

/** ns: an accounting period of the credit scheduler. */
const SPAN = 30e6;

interface Account {
  readonly domain: number;
  claim: Claim;
  /** CPU time that is left, at `since`. */
  left: number;
  since: number;
  running: number;
  wanting: number;
  held: boolean;
  /** When it is full, while somebody waits. */
  full: number;
}

export class Held {
  readonly #recording: Recording;
  readonly #changed: (domain: number) => void;
  readonly #accounts = new Map<number, Account>();
  /** Accounts that are held. */
  readonly #open = new Set<Account>();
  /** When `release` is due; Infinity: never. */
  next = Infinity;

  /** `changed`: a domain is held back from now on, or no longer. */
  constructor(recording: Recording, changed: (domain: number) => void) {
    this.#recording = recording;
    this.#changed = changed;
    const capped = new Set<number>();
    for (const { domain, values } of recording.params) if (bounds(claimOf(values))) capped.add(domain);
    if (capped.size * recording.events.time.length > MOST_WORK) capped.clear();
    for (const domain of capped) {
      const claim = claimOf(recording.params[domain]!.values);
      const account = { domain, claim, left: Infinity, since: 0, running: 0, wanting: 0, held: false, full: Infinity };
      this.#accounts.set(domain, account);
    }
  }

  has(domain: number): boolean {
    return this.#accounts.get(domain)?.held === true;
  }

  /** A vCPU went from a runstate to another. */
  runstate(vcpu: number, from: number, to: number, now: number): void {
    const account = this.#accounts.get(this.#recording.vcpus[vcpu]!.domain);
    if (account === undefined) return;
    settle(account, now);
    account.running += (to === 0 ? 1 : 0) - (from === 0 ? 1 : 0);
    account.wanting += (to <= 1 ? 1 : 0) - (from <= 1 ? 1 : 0);
    this.#judge(account, now);
  }

  /** A row of `params` holds from now on. */
  params(row: number, now: number): void {
    const { domain, values } = this.#recording.params[row]!;
    const account = this.#accounts.get(domain);
    if (account === undefined) return;
    settle(account, now);
    account.claim = claimOf(values);
    account.left = Infinity;
    this.#judge(account, now);
  }

  /** Time has come to `next`. */
  release(): void {
    const now = this.next;
    for (const account of [...this.#open])
      if (account.full <= now) {
        settle(account, now);
        account.left = Infinity;
        this.#judge(account, now);
      }
  }

  #judge(account: Account, now: number): void {
    const rate = rateOf(account);
    const most = rate * SPAN;
    account.left = Math.min(account.left, most);
    const waits = account.wanting > account.running;
    const held = waits && account.left < most;
    const growth = rate - account.running;
    account.full = held && growth > 0 ? now + Math.max(1, (most - account.left) / growth) : Infinity;
    if (held) this.#open.add(account);
    else this.#open.delete(account);
    this.next = Infinity;
    for (const { full } of this.#open) this.next = Math.min(this.next, full);
    if (held === account.held) return;
    account.held = held;
    this.#changed(account.domain);
  }
}

function bounds({ cap, vcpuCap }: Claim): boolean {
  return cap < Infinity || vcpuCap < 1;
}

/** pCPUs that the claim gives. Who does not want any earns as with one vCPU. */
function rateOf({ claim, wanting }: Account): number {
  const ofVcpus = claim.vcpuCap < 1 ? claim.vcpuCap * Math.max(1, wanting) : Infinity;
  return Math.min(claim.cap, ofVcpus);
}

function settle(account: Account, now: number): void {
  const rate = rateOf(account);
  if (rate < Infinity)
    account.left = Math.min(rate * SPAN, account.left + (rate - account.running) * (now - account.since));
  account.since = now;
}
