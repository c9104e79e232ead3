/**
 * Input scripts: what `--input` delivers in virtual time instead of a person.
 *
 * A line is `expect TEXT` (wait until the console has printed TEXT, after the last thing that was expected), `send TEXT` (type TEXT), or a
 * comment (#). With several domains a line begins with `NAME:`. Steps are taken from top to bottom, whichever domain they name.
 * In TEXT \n \r \t \e \\ and \xHH are escapes; blanks at both ends do not count (\x20 is one that does).
 * Invariant: steps depend on the guests' output alone, so that equal runs get equal input at equal virtual times.
 */
import { ConfigError } from "hookvisor";

/** One line of a script. */
export interface ScriptStep {
  readonly line: number;
  readonly kind: "expect" | "send";
  /** Domain; null: the only one. */
  readonly domain: string | null;
  /** What to wait for or type; one character a byte. */
  readonly text: string;
}

/** Parses a script. `domains` are the names that lines may begin with; with several, each must. */
export function parseInputScript(text: string, source: string, domains: readonly string[]): readonly ScriptStep[] {
  const steps: ScriptStep[] = [];
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const line = index + 1;
    const fail = (what: string): never => {
      throw new ConfigError(`${source}:${line}: ${what}.`);
    };
    const body = raw.trim();
    if (body === "" || body.startsWith("#")) continue;
    const match = /^(?:([^\s:]+):\s*)?(\S+)(?:\s+(.*))?$/s.exec(body);
    const [, domain, verb = "", argument = ""] = match ?? [];
    if (verb !== "expect" && verb !== "send")
      fail(
        `expected 'expect TEXT' or 'send TEXT'${domains.length > 1 ? " after 'NAME:'" : ""}, got '${body.slice(0, 30)}'`,
      );
    if (domain !== undefined && !domains.includes(domain))
      fail(`there is no domain '${domain}'; there ${domains.length === 1 ? "is" : "are"} ${domains.join(", ")}`);
    if (domain === undefined && domains.length > 1)
      fail(`with several domains a line begins with the name of one, such as '${domains[0]}: ${body.slice(0, 30)}'`);
    if (argument === "") fail(`'${verb}' needs a text`);
    steps.push({ line, kind: verb as "expect" | "send", domain: domain ?? null, text: resolveEscapes(argument, fail) });
  }
  return steps;
}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", e: "\x1b", "\\": "\\" };

function resolveEscapes(text: string, fail: (what: string) => never): string {
  const utf8 = Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
  return utf8.replace(/\\(x[0-9a-fA-F]{2}|.?)/gs, (_all, code: string) => {
    if (code.length === 3) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
    return ESCAPES[code] ?? fail(`'\\${code}' is no escape; there are \\n \\r \\t \\e \\\\ and \\xHH`);
  });
}

/** Output that is kept for `expect`, in bytes a domain. */
const KEPT = 1 << 16;

/** Runs a script against the consoles of domains. */
export class ScriptRunner {
  readonly #steps: readonly ScriptStep[];
  readonly #only: string;
  readonly #type: (domain: string, text: string) => void;
  readonly #output = new Map<string, string>();
  #at = 0;
  #started = false;

  /** `type` delivers text as if it were typed at the present virtual time. */
  constructor(steps: readonly ScriptStep[], only: string, type: (domain: string, text: string) => void) {
    this.#steps = steps;
    this.#only = only;
    this.#type = type;
  }

  /** The step it waits for, or null: all are done. */
  get pending(): ScriptStep | null {
    return this.#steps[this.#at] ?? null;
  }

  /** The domains run. */
  start(): void {
    this.#started = true;
    this.#advance();
  }

  /** A domain printed something; one character a byte. */
  printed(domain: string, text: string): void {
    if (this.#at >= this.#steps.length) return;
    this.#output.set(domain, ((this.#output.get(domain) ?? "") + text).slice(-KEPT));
    this.#advance();
  }

  #advance(): void {
    while (this.#started) {
      const step = this.#steps[this.#at];
      if (step === undefined) return;
      const domain = step.domain ?? this.#only;
      if (step.kind === "expect") {
        const output = this.#output.get(domain) ?? "";
        const found = output.indexOf(step.text);
        if (found < 0) return;
        this.#output.set(domain, output.slice(found + step.text.length));
      } else this.#type(domain, step.text);
      this.#at++;
    }
  }
}
