/**
 * A DNS responder (RFC 1035) for the names of domains: addresses (A), names of addresses (PTR), nothing else; what it does not know does not
 * exist (NXDOMAIN). It asks nobody.
 */
import { formatIpv4, parseIpv4, read16, write16, write32 } from "../lib-switch/index.ts";

/** UDP port. */
export const DNS_PORT = 53;
const HEADER_BYTES = 12;
const TYPE = Object.freeze({ a: 1, ptr: 12, any: 255 });
const CLASS_IN = 1;
const RCODE = Object.freeze({ none: 0, format: 1, noName: 3, notImplemented: 4, refused: 5 });
const SECONDS = 60;
const MOST_ANSWERS = 16;
const REVERSE = ".in-addr.arpa";

/** What there is to know. */
export interface DnsNames {
  /** The domain that names may end with. */
  readonly domain: string;
  /** Addresses of a host, in lower case and without the domain. */
  addressesOf(host: string): readonly number[];
  /** The host that has an address, without the domain; null: none. */
  hostOf(address: number): string | null;
}

interface Question {
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** End of the question in the message. */
  readonly end: number;
}

/** The answer to a query; null: it is none. */
export function answerDns(query: Uint8Array, names: DnsNames): Uint8Array | null {
  if (query.length < HEADER_BYTES || (query[2]! & 0x80) !== 0) return null;
  const question = read16(query, 4) === 1 ? readQuestion(query) : null;
  if ((query[2]! & 0x78) !== 0) return message(query, null, RCODE.notImplemented, []);
  if (question === null) return message(query, null, RCODE.format, []);
  if (question.class !== CLASS_IN) return message(query, question, RCODE.refused, []);
  const reversed = reverseAddress(question.name);
  if (reversed !== null) {
    const host = names.hostOf(reversed);
    if (host === null) return message(query, question, RCODE.noName, []);
    return message(
      query,
      question,
      RCODE.none,
      wants(question, TYPE.ptr) ? [encodeName(`${host}.${names.domain}`)] : [],
      TYPE.ptr,
    );
  }
  const addresses = names.addressesOf(withoutDomain(question.name, names.domain));
  if (addresses.length === 0) return message(query, question, RCODE.noName, []);
  const data = wants(question, TYPE.a) ? addresses.slice(0, MOST_ANSWERS).map(addressBytes) : [];
  return message(query, question, RCODE.none, data, TYPE.a);
}

function wants({ type }: Question, kind: number): boolean {
  return type === kind || type === TYPE.any;
}

function addressBytes(address: number): Uint8Array {
  const bytes = new Uint8Array(4);
  write32(bytes, 0, address);
  return bytes;
}

function withoutDomain(name: string, domain: string): string {
  return name.endsWith(`.${domain}`) ? name.slice(0, -domain.length - 1) : name;
}

function reverseAddress(name: string): number | null {
  return name.endsWith(REVERSE) ? parseIpv4(name.slice(0, -REVERSE.length).split(".").reverse().join(".")) : null;
}

/** The name by which an address is asked for in reverse. */
export function reverseName(address: number): string {
  return `${formatIpv4(address).split(".").reverse().join(".")}${REVERSE}`;
}

/** The one question; compressed names are refused, as no resolver sends them there. */
function readQuestion(query: Uint8Array): Question | null {
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (let bytes = 0; ; ) {
    const length = query[at];
    if (length === undefined || length > 63) return null;
    at++;
    if (length === 0) break;
    bytes += length + 1;
    if (bytes > 254 || at + length > query.length) return null;
    labels.push(String.fromCharCode(...query.subarray(at, at + length)).toLowerCase());
    at += length;
  }
  if (at + 4 > query.length) return null;
  return { name: labels.join("."), type: read16(query, at), class: read16(query, at + 2), end: at + 4 };
}

/** A name on the wire; labels that are too long are cut. */
export function encodeName(name: string): Uint8Array {
  const bytes: number[] = [];
  for (const label of name.split(".").filter((one) => one !== "")) {
    const part = [...label.slice(0, 63)].map((c) => c.charCodeAt(0) & 255);
    bytes.push(part.length, ...part);
  }
  return Uint8Array.from([...bytes.slice(0, 254), 0]);
}

function message(
  query: Uint8Array,
  question: Question | null,
  code: number,
  answers: readonly Uint8Array[],
  type: number = TYPE.a,
): Uint8Array {
  const asked = question === null ? new Uint8Array(0) : query.subarray(HEADER_BYTES, question.end);
  const bytes = new Uint8Array(HEADER_BYTES + asked.length + answers.reduce((sum, data) => sum + 12 + data.length, 0));
  bytes.set(query.subarray(0, 2));
  // Answer, authoritative, recursion as it was wanted (and, for resolvers that insist on it, available).
  bytes[2] = 0x84 | (query[2]! & 0x79);
  bytes[3] = 0x80 | code;
  write16(bytes, 4, question === null ? 0 : 1);
  write16(bytes, 6, answers.length);
  bytes.set(asked, HEADER_BYTES);
  let at = HEADER_BYTES + asked.length;
  for (const data of answers) {
    write16(bytes, at, 0xc000 | HEADER_BYTES);
    write16(bytes, at + 2, type);
    write16(bytes, at + 4, CLASS_IN);
    write32(bytes, at + 6, SECONDS);
    write16(bytes, at + 10, data.length);
    bytes.set(data, at + 12);
    at += 12 + data.length;
  }
  return bytes;
}
