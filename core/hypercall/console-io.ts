/**
 * Console_io (18): a guest's text for the hypervisor's console (Xen: drivers/char/console.c).
 *
 * Unlike a release build of Xen, writing is open to every domain: early boot messages are worth having. Bytes go to the
 * domain's onConsoleWrite as they come; whole lines go to the machine's log.
 */
import { __HYPERVISOR, CONSOLEIO, ERRNO } from "../abi/index.ts";
import type { Domain } from "../domain/domain.ts";
import type { Machine } from "../machine/machine.ts";
import type { HypercallCall, HypercallTable } from "./table.ts";

/** Bytes copied at a time. */
const CHUNK = 128;
/** A line is logged at the latest when it has this many characters (Xen: DOMAIN_PBUF_SIZE). */
const LINE = 200;
const INT_MAX = 0x7fffffff;

/** Unfinished lines by domain. */
type Lines = WeakMap<Domain, string>;

function log(machine: Machine, lines: Lines, domain: Domain, bytes: Uint8Array): void {
  let line = lines.get(domain) ?? "";
  const flush = (): void => {
    machine.log(`(d${domain.id}) ${line}`);
    line = "";
  };
  for (const byte of bytes) {
    if (byte === 0x0a) flush();
    else if (byte >= 0x20 && byte < 0x7f) line += String.fromCharCode(byte);
    else if (byte === 0x09) line += " ";
    if (line.length >= LINE) flush();
  }
  lines.set(domain, line);
}

export function addConsoleIo(table: HypercallTable, machine: Machine): void {
  const lines: Lines = new WeakMap();
  const write = (call: HypercallCall): number => {
    const count = call.lo(1);
    if (count > INT_MAX) return -ERRNO.EINVAL;
    for (let done = 0; done < count; ) {
      if (done > 0 && call.preempted()) {
        const lo = call.lo(2) + done;
        const carry = call.abi.wordBytes === 8 && lo > 0xffffffff ? 1 : 0;
        call.setArgument(1, count - done);
        call.setArgument(2, lo >>> 0, (call.hi(2) + carry) >>> 0);
        return call.continued();
      }
      const length = Math.min(CHUNK, count - done);
      const view = call.readArg(2, length, done);
      if (view === null) return -ERRNO.EFAULT;
      const bytes = new Uint8Array(view.buffer, view.byteOffset, length).slice();
      call.charge(20 * length);
      call.domain.onConsoleWrite?.(bytes);
      log(machine, lines, call.domain, bytes);
      done += length;
    }
    return 0;
  };
  const read = (call: HypercallCall): number => {
    const count = call.lo(1);
    if (count > INT_MAX) return -ERRNO.EINVAL;
    const max = Math.min(count, CHUNK);
    const bytes = call.domain.onConsoleRead?.(max).subarray(0, max) ?? null;
    if (bytes === null || bytes.length === 0) return 0;
    return call.writeArg(2, bytes, bytes.length) ? bytes.length : -ERRNO.EFAULT;
  };
  const group = table.addGroup(__HYPERVISOR.console_io, "console_io", (call) => call.lo(0));
  group.add(CONSOLEIO.write, "write", write);
  group.add(CONSOLEIO.read, "read", read);
}
