/**
 * A session: a booted machine, the domains of one command, and what becomes of each when it shuts down.
 *
 * It runs the machine until every domain has ended for good, or a limit comes. on_poweroff, on_reboot and on_crash are applied here: destroy,
 * restart (a new domain from the same config), preserve (kept, no longer waited for), rename-restart (kept under another name, and a
 * new one). Invariant: decisions are taken between steps of the run loop, so that they cost no virtual time and are the same in equal runs.
 */
import {
  type Domain,
  type DomainConfig,
  type Hypervisor,
  type RunEnd,
  type RunOptions,
  runStateTime,
  type ShutdownAction,
  ShutdownReason,
} from "hookvisor";

/** How a domain's life under a session ended. */
export type Outcome = "poweroff" | "reboot" | "suspend" | "crash" | "watchdog" | "soft-reset" | "running";

/** What is known of a domain, live or gone. */
export interface DomainResult {
  readonly name: string;
  readonly id: number;
  readonly outcome: Outcome;
  /** What the guest did, for a crash. */
  readonly message: string | null;
  /** Nanoseconds in each runstate, all vCPUs together. */
  readonly times: {
    readonly running: number;
    readonly runnable: number;
    readonly blocked: number;
    readonly offline: number;
  };
  readonly restarts: number;
}

interface Member {
  readonly config: DomainConfig;
  domain: Domain;
  outcome: Outcome;
  message: string | null;
  /** Times of its earlier lives (restarts). */
  before: [number, number, number, number];
  restarts: number;
  ended: boolean;
  /** Its domain is still there and its times are to be read from it. */
  live: boolean;
}

const OUTCOMES: Readonly<Record<ShutdownReason, Outcome>> = {
  [ShutdownReason.poweroff]: "poweroff",
  [ShutdownReason.reboot]: "reboot",
  [ShutdownReason.suspend]: "suspend",
  [ShutdownReason.crash]: "crash",
  [ShutdownReason.watchdog]: "watchdog",
  [ShutdownReason.softReset]: "soft-reset",
};

export class Session {
  readonly hypervisor: Hypervisor;
  /** Called for each domain that is made, restarts included, before it runs. */
  onCreate: (domain: Domain, name: string) => void = () => {};
  /** Told what the session does with a domain, in a sentence. */
  onNote: (text: string) => void = () => {};
  readonly #members: Member[] = [];
  readonly #pending: Member[] = [];

  /** Taps hooks: before boot. */
  constructor(hypervisor: Hypervisor) {
    this.hypervisor = hypervisor;
    hypervisor.hooks.domainShutdown.tap("toolstack-cli", (domain) => {
      const member = this.#members.find((m) => m.live && m.domain === domain);
      if (member !== undefined && !this.#pending.includes(member)) this.#pending.push(member);
    });
  }

  /** Creates a domain, paused. */
  async add(config: DomainConfig): Promise<Domain> {
    const domain = await this.hypervisor.createDomain(config);
    this.#members.push({
      config,
      domain,
      outcome: "running",
      message: null,
      before: [0, 0, 0, 0],
      restarts: 0,
      ended: false,
      live: true,
    });
    this.onCreate(domain, config.name);
    return domain;
  }

  /** Lets the domains run. */
  start(): void {
    for (const { domain } of this.#members) this.hypervisor.unpause(domain);
  }

  /** Runs until all domains have ended ("done"), or one of the limits. `stop` is asked between steps. */
  async run(options: Omit<RunOptions, "done">, stop: () => boolean): Promise<RunEnd | "stopped"> {
    const deadline = performance.now() + (options.wallTimeout ?? Infinity);
    const finished = (): boolean => this.#members.every((m) => m.ended);
    const done = (): boolean => this.#pending.length > 0 || stop();
    for (;;) {
      if (finished()) return "done";
      const left = deadline - performance.now();
      if (left <= 0) return "timeout";
      const limits = Number.isFinite(left) ? { ...options, wallTimeout: left } : options;
      const end = await this.hypervisor.run({ ...limits, done });
      if (stop()) return "stopped";
      for (const member of this.#pending.splice(0)) await this.#settle(member);
      if (end !== "done" && !finished()) return end;
    }
  }

  /** Applies what the config says for the reason of a shutdown. */
  async #settle(member: Member): Promise<void> {
    const { domain, config } = member;
    const reason = domain.shutdownReason ?? ShutdownReason.crash;
    member.outcome = OUTCOMES[reason];
    member.message = domain.crashMessage === "" ? null : domain.crashMessage;
    const action = actionFor(config, reason);
    if (member.outcome === "crash")
      this.onNote(`${config.name} crashed${member.message === null ? "" : `: ${member.message}`}`);
    switch (action) {
      case "preserve":
        member.ended = true;
        this.onNote(`${config.name} is kept as it is (preserve)`);
        return;
      case "destroy":
        this.#freeze(member);
        member.ended = true;
        await this.hypervisor.destroyDomain(domain);
        return;
      case "restart":
      case "rename-restart":
        this.#freeze(member);
        member.restarts++;
        if (action === "restart") await this.hypervisor.destroyDomain(domain);
        else domain.name = `${config.name}-${member.restarts}`;
        this.onNote(`${config.name} restarts (${member.outcome})`);
        member.domain = await this.hypervisor.createDomain(config);
        member.live = true;
        this.onCreate(member.domain, config.name);
        this.hypervisor.unpause(member.domain);
    }
  }

  #freeze(member: Member): void {
    member.before = timesOf(member, this.hypervisor.machine.now);
    member.live = false;
  }

  /** What is known of every domain, in the order of their creation. */
  results(): readonly DomainResult[] {
    return this.#members.map((member) => {
      const [running, runnable, blocked, offline] = timesOf(member, this.hypervisor.machine.now);
      return {
        name: member.config.name,
        id: member.domain.id,
        outcome: member.ended ? member.outcome : "running",
        message: member.message,
        times: { running, runnable, blocked, offline },
        restarts: member.restarts,
      };
    });
  }
}

function actionFor(config: DomainConfig, reason: ShutdownReason): ShutdownAction {
  if (reason === ShutdownReason.crash || reason === ShutdownReason.watchdog) return config.onCrash ?? "destroy";
  if (reason === ShutdownReason.reboot || reason === ShutdownReason.softReset) return config.onReboot ?? "restart";
  return config.onPoweroff ?? "destroy";
}

function timesOf(member: Member, now: number): [number, number, number, number] {
  const times: [number, number, number, number] = [...member.before];
  if (member.live)
    for (const vcpu of member.domain.vcpus)
      for (const state of [0, 1, 2, 3] as const)
        times[state] += runStateTime(vcpu, state, vcpu.runningOn?.time ?? Math.max(now, vcpu.clock));
  return times;
}
