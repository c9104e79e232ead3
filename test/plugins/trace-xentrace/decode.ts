/** A reader of Xen's trace files, written from public/trace.h alone: windows of pCPUs, merged by TSC, runstate totals of each vCPU. */

export interface TraceRecord {
  readonly pcpu: number;
  readonly event: number;
  readonly tsc: bigint;
  readonly data: readonly number[];
}

/** All records of a file, each pCPU's in the file's order, pCPUs merged by TSC. */
export function decodeRecords(bytes: Uint8Array): TraceRecord[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const records: TraceRecord[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (view.getUint32(at, true) !== 0x2001f003) throw new Error(`no cpu-change record at ${at}`);
    const pcpu = view.getUint32(at + 4, true);
    const end = at + 12 + view.getUint32(at + 8, true);
    at += 12;
    let last = 0n;
    while (at < end) {
      const header = view.getUint32(at, true);
      if (header >>> 31 === 0) throw new Error(`a record without TSC at ${at}`);
      const tsc = view.getBigUint64(at + 4, true);
      if (tsc < last) throw new Error(`TSC goes back at ${at}`);
      last = tsc;
      const words = (header >>> 28) & 7;
      const data = Array.from({ length: words }, (_, i) => view.getUint32(at + 12 + 4 * i, true));
      records.push({ pcpu, event: header & 0x0fffffff, tsc, data });
      at += 12 + 4 * words;
    }
    if (at !== end) throw new Error(`a record crosses the window's end at ${at}`);
  }
  return records.sort((a, b) => (a.tsc < b.tsc ? -1 : a.tsc > b.tsc ? 1 : 0));
}

/** What a vCPU spent in each runstate. */
export interface Totals {
  readonly times: [number, number, number, number];
  /** Since it first ran, which is all that xenalyze counts. */
  readonly sinceFirstRun: [number, number, number, number];
  /** Intervals since then that are not empty. */
  readonly counts: [number, number, number, number];
}

/**
 * Runstate totals by `dDvV`, in nanoseconds, from an unmerged or merged list; whatever does not fit together is an error: a change from a state
 * that the vCPU is not in, two vCPUs on a pCPU, a vCPU on two.
 */
export function runstateTotals(records: readonly TraceRecord[], ticks: number): Map<string, Totals> {
  const vcpus = new Map<string, { state: number; since: number; ran: boolean; totals: Totals }>();
  const on = new Map<number, string>();
  for (const { pcpu, event, tsc, data } of records) {
    const change = (event & 0xff00f) === 0x21001;
    if (!change && event !== 0x21002) continue;
    const word = data[0]!;
    const name = `d${word >>> 16}v${word & 0xffff}`;
    const now = Number(tsc / BigInt(ticks));
    const old = change ? (event >>> 8) & 15 : 0;
    const next = change ? (event >>> 4) & 15 : 0;
    let vcpu = vcpus.get(name);
    if (vcpu === undefined) {
      const totals: Totals = { times: [0, 0, 0, 0], sinceFirstRun: [0, 0, 0, 0], counts: [0, 0, 0, 0] };
      vcpu = { state: old, since: now, ran: old === 0, totals };
      vcpus.set(name, vcpu);
      if (!change) on.set(pcpu, name);
    }
    if (vcpu.state !== old) throw new Error(`${name} changes from ${old} and is in ${vcpu.state}, at ${now}`);
    if (old === 0 && on.get(pcpu) !== name) throw new Error(`${name} is not on pCPU ${pcpu} at ${now}`);
    if (old === 0 && next !== 0) on.delete(pcpu);
    if (old !== 0 && next === 0) {
      if (on.has(pcpu)) throw new Error(`${name} comes to pCPU ${pcpu}, where ${on.get(pcpu)} is, at ${now}`);
      on.set(pcpu, name);
    }
    const spent = now - vcpu.since;
    vcpu.totals.times[old as 0] += spent;
    if (vcpu.ran && spent > 0) {
      vcpu.totals.sinceFirstRun[old as 0] += spent;
      vcpu.totals.counts[old as 0]++;
    }
    if (next === 0) vcpu.ran = true;
    vcpu.state = next;
    vcpu.since = now;
  }
  return new Map([...vcpus].map(([name, { totals }]) => [name, totals]));
}
