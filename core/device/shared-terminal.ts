/**
 * A terminal that several devices of one domain use at a time: a PV console and a serial port, say.
 *
 * Output of all of them goes through. Input belongs to one: the first that listens, until another one writes; a guest that has moved from its
 * firmware's console to its kernel's is so followed. Invariant: no byte of input is lost or given twice.
 */
import type { Terminal } from "./device-type.ts";

export class SharedTerminal {
  readonly #terminal: Terminal;
  readonly #users = new Set<User>();
  #reader: User | null = null;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
    terminal.onInput(() => this.#reader?.listener?.());
  }

  /** One more user; `leave` ends its use. */
  join(): { readonly terminal: Terminal; leave(): void } {
    const user: User = { listener: null };
    this.#users.add(user);
    return {
      terminal: {
        write: (bytes) => {
          if (!this.#users.has(user)) return;
          if (user.listener !== null && this.#reader !== user) this.#listen(user);
          this.#terminal.write(bytes);
        },
        read: (max) => (this.#reader === user ? this.#terminal.read(max) : new Uint8Array(0)),
        onInput: (waiting) => {
          if (!this.#users.has(user)) return;
          user.listener = waiting;
          if (this.#reader === null || this.#reader === user) this.#listen(user);
        },
      },
      leave: () => {
        if (!this.#users.delete(user) || this.#reader !== user) return;
        this.#reader = null;
        for (const other of this.#users)
          if (other.listener !== null) {
            this.#listen(other);
            return;
          }
      },
    };
  }

  /** What waits is offered to the new reader at once. */
  #listen(user: User): void {
    this.#reader = user;
    user.listener?.();
  }
}

interface User {
  listener: (() => void) | null;
}
