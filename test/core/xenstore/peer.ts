/** A scripted XenStore client: encodes requests, decodes answers and events. */
import { XS } from "../../../core/abi/xs-wire.ts";
import type { Connection } from "../../../core/xenstore/connection.ts";
import { bytesOf, encodeMessage, type Message, MessageReader, textOf } from "../../../core/xenstore/wire.ts";

/** Name of a message type. */
export function typeName(type: number): string {
  return Object.entries(XS).find(([, value]) => value === type)?.[0] ?? String(type);
}

export class Peer {
  readonly connection: Connection;
  /** Watch events in the order of their arrival: "path token". */
  readonly events: string[] = [];
  #request = 0;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  /** Sends a request; returns everything that came out, decoded. */
  exchange(type: number, payload: string, tx = 0): Message[] {
    const bytes = encodeMessage(
      { type, reqId: ++this.#request, txId: tx, payload: bytesOf(payload) },
      this.connection.littleEndian,
    );
    this.connection.feed(bytes);
    return this.drain();
  }

  /** Takes what is in the output. */
  drain(): Message[] {
    const reader = new MessageReader(this.connection.littleEndian);
    const buffer = new Uint8Array(8192);
    const messages: Message[] = [];
    for (let length = this.connection.take(buffer); length > 0; length = this.connection.take(buffer)) {
      for (let at = 0; at < length; ) {
        at += reader.push(buffer, at, length);
        const message = reader.take();
        if (message !== undefined) messages.push(message);
      }
    }
    for (const { type, payload } of messages) {
      if (type === XS.WATCH_EVENT) this.events.push(textOf(payload).replace("\0", " ").replace("\0", ""));
    }
    return messages;
  }

  /** Sends a request; returns the answer's payload as text, or the name of the error. A final NUL is left out. */
  ask(type: number, payload: string, tx = 0): string {
    const answer = this.exchange(type, payload, tx).find((message) => message.type !== XS.WATCH_EVENT);
    if (answer === undefined) throw new Error("no answer");
    if (answer.reqId !== this.#request || answer.txId !== tx) throw new Error("answer to another request");
    if (answer.type !== type && answer.type !== XS.ERROR) throw new Error(`answered by ${typeName(answer.type)}`);
    return textOf(answer.payload).replace(/\0$/, "");
  }

  read(path: string, tx = 0): string {
    return this.ask(XS.READ, `${path}\0`, tx);
  }
  write(path: string, value: string, tx = 0): string {
    return this.ask(XS.WRITE, `${path}\0${value}`, tx);
  }
  mkdir(path: string, tx = 0): string {
    return this.ask(XS.MKDIR, `${path}\0`, tx);
  }
  rm(path: string, tx = 0): string {
    return this.ask(XS.RM, `${path}\0`, tx);
  }
  directory(path: string, tx = 0): string[] {
    const names = this.ask(XS.DIRECTORY, `${path}\0`, tx);
    return names === "" ? [] : names.split("\0");
  }
  getPerms(path: string): string {
    return this.ask(XS.GET_PERMS, `${path}\0`).replaceAll("\0", " ");
  }
  setPerms(path: string, ...entries: string[]): string {
    return this.ask(XS.SET_PERMS, [path, ...entries].map((entry) => `${entry}\0`).join(""));
  }
  watch(path: string, token: string): string {
    return this.ask(XS.WATCH, `${path}\0${token}\0`);
  }
  unwatch(path: string, token: string): string {
    return this.ask(XS.UNWATCH, `${path}\0${token}\0`);
  }
  /** Opens a transaction; returns its id. */
  start(): number {
    return Number(this.ask(XS.TRANSACTION_START, "\0"));
  }
  end(tx: number, commit = true): string {
    return this.ask(XS.TRANSACTION_END, commit ? "T\0" : "F\0", tx);
  }
  /** The events that have arrived, and forgets them. */
  takeEvents(): string[] {
    this.drain();
    return this.events.splice(0);
  }
}
