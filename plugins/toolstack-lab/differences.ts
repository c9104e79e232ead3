/** What two experiments that are compared do not have in common, besides their schedulers: then a comparison says little. */
import type { Experiment } from "./experiment/model.ts";
import { formatTime } from "./experiment/values.ts";

/** A clause each; empty: they are alike. Schedulers and their parameters are what one compares. */
export function differencesOf(a: Experiment, b: Experiment): readonly string[] {
  const found: string[] = [];
  const differ = (left: unknown, right: unknown): boolean => JSON.stringify(left) !== JSON.stringify(right);
  if (a.duration !== b.duration) found.push(`A ran for ${formatTime(a.duration)} and B for ${formatTime(b.duration)}`);
  if (a.warmUp !== b.warmUp) found.push(`A's warm-up is ${formatTime(a.warmUp)} and B's ${formatTime(b.warmUp)}`);
  const machine = Object.keys(a.machine) as (keyof Experiment["machine"])[];
  const parts = machine.filter((key) => differ(a.machine[key], b.machine[key]));
  if (parts.length > 0)
    found.push(
      `their machines differ in ${parts.map((key) => `${key} (${JSON.stringify(a.machine[key])} and ${JSON.stringify(b.machine[key])})`).join(", ")}`,
    );
  const pools = ({ pools: all }: Experiment) => all.map(({ name, cpus, granularity }) => ({ name, cpus, granularity }));
  if (differ(pools(a), pools(b))) found.push("their pools differ");
  const names = ({ domains }: Experiment): string => domains.map(({ name }) => name).join(", ");
  if (names(a) !== names(b)) found.push(`A's domains are ${cut(names(a))} and B's ${cut(names(b))}`);
  else {
    const other = a.domains
      .filter((domain, d) => differ(demand(domain), demand(b.domains[d]!)))
      .map(({ name }) => name);
    if (other.length > 0) found.push(`what they run or where differs in ${cut(other.join(", "))}`);
  }
  const timeless = ({ changes }: Experiment) =>
    changes.filter(({ kind }) => kind !== "domainParams" && kind !== "poolParams");
  if (differ(timeless(a), timeless(b))) found.push("their changes in the middle differ");
  if (differ(a.faults, b.faults)) found.push("their faults differ");
  if (differ(a.entitlement, b.entitlement)) found.push("their entitlements differ");
  return found;
}

/** What a domain asks for, wherever in its file it is written. */
function demand({ image, vcpus, cpus, softCpus, pool, devices, type, extra }: Experiment["domains"][number]): unknown {
  const guest = image.kind === "workload" ? image.text : [image.kernelSha256, image.ramdiskSha256];
  return [guest, vcpus, cpus, softCpus, pool, devices, type, extra];
}

function cut(text: string): string {
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
