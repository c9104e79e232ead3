/**
 * The primary PV console: one page shared with the guest, two byte rings in it (xen/io/console.h: xencons_interface), one event channel.
 *
 * Page and port were made by the domain builder and are found in /local/domain/N/console; there is no handshake. Output is drained as soon as
 * the guest notifies, so that a guest never waits for its console; input that finds the ring full stays with the terminal until
 * the guest has read and notifies.
 * Invariants: the page is hostile: each index is read once; a distance between two indices that the ring cannot have closes the console with
 * one line in the log, and the guest goes on without it.
 * Not supported: secondary consoles (xenbus devices of their own).
 */
import {
  ConfigError,
  type DeviceHost,
  type DeviceType,
  type Field,
  type MappedPages,
  type SplitBackend,
  type Terminal,
  xen,
} from "hookvisor";

const { xencons_interface } = xen;

/** The device type. Its spec is empty: there is one primary console. */
export const consoleType: DeviceType<null> = Object.freeze({
  type: "console",
  handshake: "none",
  parse(spec: string): null {
    if (spec !== "")
      throw new ConfigError(
        `Console '${spec}': secondary consoles are not supported, only the one that every domain has.`,
      );
    return null;
  },
  deviceId: () => 0,
  frontendPath: () => "console",
  frontendNodes: () => ({ limit: "1048576", type: "xenconsoled", output: "pty" }),
  create: (host: DeviceHost) => new ConsoleBackend(host),
});

/** What is mapped and bound while the console is connected. */
interface Link {
  readonly page: Uint8Array;
  readonly view: DataView;
  readonly pages: MappedPages;
  readonly channel: { notify(): void; close(): void };
}

interface RingFields {
  readonly data: Field;
  readonly cons: Field;
  readonly prod: Field;
}

class ConsoleBackend implements SplitBackend {
  readonly kind = "split";
  readonly #host: DeviceHost;
  readonly #terminal: Terminal;
  readonly #in: RingFields;
  readonly #out: RingFields;
  #link: Link | null = null;

  constructor(host: DeviceHost) {
    this.#host = host;
    const { fields } = xencons_interface.at(host.domain.abi);
    this.#in = { data: fields["in"], cons: fields["in_cons"], prod: fields["in_prod"] };
    this.#out = { data: fields["out"], cons: fields["out_cons"], prod: fields["out_prod"] };
    this.#terminal = host.services.terminal(host.domain, 0);
    this.#terminal.onInput(() => this.#poll());
  }

  probe(): void {
    this.#host.backend.write("protocol", "vt100");
  }

  /** A guest without a console page (no ring-ref) has no console, which is no error. */
  connect(): void {
    const reference = nodeNumber(this.#host.frontend.read("ring-ref"));
    const port = nodeNumber(this.#host.frontend.read("port"));
    if (reference === null || port === null) return;
    const pages = this.#host.mapForeign([reference], "rw");
    const page = pages.pages[0]!;
    try {
      const channel = this.#host.bindEvent(port, () => this.#poll());
      this.#link = { page, view: new DataView(page.buffer, page.byteOffset, page.byteLength), pages, channel };
    } catch (error) {
      pages.unmap();
      throw error;
    }
    this.#poll();
  }

  disconnect(): void {
    const link = this.#link;
    this.#link = null;
    if (link === null) return;
    link.channel.close();
    link.pages.unmap();
  }

  close(): void {
    this.#terminal.onInput(() => {});
  }

  /** Moves what there is in both directions; a bounded amount of work, whatever the page says. */
  #poll(): void {
    const link = this.#link;
    if (link === null) return;
    const written = this.#drain(link);
    const read = written < 0 ? -1 : this.#feed(link);
    if (written < 0 || read < 0) {
      this.#host.log(`console closed: the guest's ${written < 0 ? "output" : "input"} ring has wild indices`);
      this.disconnect();
    } else if (written + read > 0) link.channel.notify();
  }

  /** Ring to terminal; returns the bytes moved, -1 when the indices are impossible. */
  #drain(link: Link): number {
    const { data, cons, prod } = this.#out;
    const size = data.count;
    const from = cons.get(link.view, 0);
    const length = (prod.get(link.view, 0) - from) >>> 0;
    if (length > size) return -1;
    if (length === 0) return 0;
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = link.page[data.offset + ((from + i) & (size - 1))]!;
    this.#set(link, cons, from + length);
    this.#terminal.write(bytes);
    return length;
  }

  /** Terminal to ring; returns the bytes moved, -1 when the indices are impossible. */
  #feed(link: Link): number {
    const { data, cons, prod } = this.#in;
    const size = data.count;
    const to = prod.get(link.view, 0);
    const used = (to - cons.get(link.view, 0)) >>> 0;
    if (used > size) return -1;
    let moved = 0;
    while (used + moved < size) {
      const bytes = this.#terminal.read(size - used - moved);
      if (bytes.length === 0) break;
      for (const byte of bytes) link.page[data.offset + ((to + moved++) & (size - 1))] = byte;
    }
    if (moved === 0) return 0;
    link.pages.wrote(0, data.offset, data.offset + size);
    this.#set(link, prod, to + moved);
    return moved;
  }

  #set(link: Link, field: Field, value: number): void {
    field.set(link.view, 0, value >>> 0);
    link.pages.wrote(0, field.offset, field.offset + 4);
  }
}

/** A number out of a node; null: absent or none. */
function nodeNumber(text: string | undefined): number | null {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : null;
}
