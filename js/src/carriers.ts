/**
 * Carriers: whatever holds the headers of a request or message. Plain objects, `Headers`, `Map`s, lists of pairs, Node's
 * `rawHeaders`, incoming and outgoing messages, gRPC's `Metadata` and what looks like it.
 *
 * Which names count, and what several values mean, is core's rule: here is only a quick look at what cannot matter.
 * Whatever a carrier is or does, nothing is thrown into the request: what cannot be read is not there.
 */

import { captured, exchange } from './exchange.js';
import { OP_SPELLING } from './protocol.js';
import { AMPLE } from './tree.js';

/** The headers that are read and written, in core's order. */
export const HEADERS = ['traceparent', 'tracestate', 'baggage'] as const;

/** So many entries of a carrier are looked at: a framework's have some dozens. */
const MAX_ENTRIES = 10_000;

/** The value of a header, or its octets. */
export type Value = string | Uint8Array;

/** What a carrier holds of our headers. */
export class Found {
  traceparent: string | undefined = undefined;
  tracestate: string | undefined = undefined;
  baggage: string | undefined = undefined;
  /** All of them by name, where they do not fit above: several values of one header, octets, names in other letters. */
  pairs: [name: string, value: Value][] | undefined = undefined;

  /** Whether there is none. */
  isEmpty(): boolean {
    return (
      this.pairs === undefined &&
      this.traceparent === undefined &&
      this.tracestate === undefined &&
      this.baggage === undefined
    );
  }

  /** Takes the value of a header in, or each of several. */
  take(name: string, value: unknown): void {
    if (typeof value === 'string') this.one(name, value);
    else if (value instanceof Uint8Array) this.named(name, value);
    else if (Array.isArray(value)) {
      for (const item of value.slice(0, MAX_ENTRIES)) {
        if (typeof item === 'string') this.one(name, item);
        else if (item instanceof Uint8Array) this.named(name, item);
      }
    }
  }

  private one(name: string, value: string): void {
    if (this.pairs === undefined) {
      if (name === 'traceparent') {
        if (this.traceparent === undefined) {
          this.traceparent = value;
          return;
        }
      } else if (name === 'tracestate') {
        if (this.tracestate === undefined) {
          this.tracestate = value;
          return;
        }
      } else if (name === 'baggage') {
        if (this.baggage === undefined) {
          this.baggage = value;
          return;
        }
      }
    }
    this.named(name, value);
  }

  private named(name: string, value: Value): void {
    if (this.pairs === undefined) {
      this.pairs = [];
      for (const header of HEADERS) {
        const before = this[header];
        if (before !== undefined) this.pairs.push([header, before]);
      }
    }
    this.pairs.push([name, value]);
  }
}

/** Whether core looks at an entry of this name, as far as its length and first letter tell. */
function matters(name: string): boolean {
  switch (name.length) {
    case 7: // baggage
      return (name.charCodeAt(0) | 32) === 98;
    case 10: // tracestate
    case 11: // traceparent
      return (name.charCodeAt(0) | 32) === 116;
    case 12: // HTTP_BAGGAGE
    case 15: // HTTP_TRACESTATE
    case 16: // HTTP_TRACEPARENT
      return name.charCodeAt(0) === 72 && name.charCodeAt(4) === 95;
    case 14:
      return name === 'REQUEST_METHOD';
    default:
      return false;
  }
}

/** The lower-case name of the header that this name is, in any spelling. */
export function headerOf(name: string): string | undefined {
  if (!matters(name)) return undefined;
  const lower = name.toLowerCase();
  const bare = name.startsWith('HTTP_') ? lower.slice(5) : lower;
  return (HEADERS as readonly string[]).includes(bare) ? bare : undefined;
}

/** Reads a carrier. What is behind a header that throws is read. */
export function read(carrier: unknown): Found {
  const found = new Found();
  try {
    readInto(found, carrier);
  } catch {
    // It cannot be walked: what was read until then counts.
  }
  return found;
}

function readInto(found: Found, carrier: any): void {
  if (carrier === null || typeof carrier !== 'object') return;
  const prototype = Object.getPrototypeOf(carrier);
  if (prototype === Object.prototype || prototype === null) return readObject(found, carrier, true);
  switch (kindOf(carrier)) {
    case 'list':
      return readList(found, carrier);
    case 'message':
      return readFlat(found, carrier.rawHeaders);
    case 'pairs':
      return readPairs(found, carrier);
    case 'metadata':
    case 'headers':
      return readNames(found, (header) => carrier.get(header));
    case 'outgoing':
      return readNames(found, (header) => carrier.getHeader(header));
    case 'holder':
      return readInto(found, carrier.headers);
    default:
      return readObject(found, carrier, false);
  }
}

type Kind = 'headers' | 'holder' | 'list' | 'message' | 'metadata' | 'object' | 'outgoing' | 'pairs';

/** What kind of carrier an object is that is no plain one. */
function kindOf(carrier: any): Kind {
  if (Array.isArray(carrier)) return 'list';
  if (carrier instanceof Map) return 'pairs';
  if (Array.isArray(carrier.rawHeaders)) return 'message';
  if (typeof carrier.get === 'function') {
    if (typeof carrier.getMap === 'function') return 'metadata';
    // `get` of a `Headers` takes any letter case, and joins several values.
    if (carrier[Symbol.toStringTag] === 'Headers' || typeof carrier.append === 'function') return 'headers';
  }
  if (typeof carrier.getHeader === 'function' && typeof carrier.setHeader === 'function') return 'outgoing';
  if (typeof carrier[Symbol.iterator] === 'function') return 'pairs';
  // A request of the `fetch` API, or one of a framework's.
  if (carrier.headers !== null && typeof carrier.headers === 'object') return 'holder';
  return 'object';
}

/** Reads our headers by their names; one that throws is not there. */
export function readNames(found: Found, get: (name: string) => unknown): void {
  for (const name of HEADERS) {
    try {
      found.take(name, get(name));
    } catch {
      continue;
    }
  }
}

function readObject(found: Found, carrier: any, isPlain: boolean): void {
  let left = MAX_ENTRIES;
  for (const name in carrier) {
    if (left-- === 0) return;
    // A prototype's entries are nobody's headers. Those of a plain object are seldom anything.
    if (matters(name) && ((isPlain && !(name in Object.prototype)) || Object.hasOwn(carrier, name))) {
      try {
        found.take(name, carrier[name]);
      } catch {
        continue;
      }
    }
  }
}

/** Pairs, or names and values in turn. */
function readList(found: Found, list: unknown[]): void {
  if (list.length > 0 && !Array.isArray(list[0]) && isText(list[0])) readFlat(found, list);
  else readPairs(found, list);
}

function readFlat(found: Found, list: unknown[]): void {
  const end = Math.min(list.length - 1, 2 * MAX_ENTRIES);
  for (let index = 0; index < end; index += 2) {
    const name = nameOf(list[index]);
    if (name !== undefined && matters(name)) found.take(name, list[index + 1]);
  }
}

function readPairs(found: Found, pairs: Iterable<unknown>): void {
  let left = MAX_ENTRIES;
  for (const pair of pairs) {
    if (left-- === 0) return;
    if (!Array.isArray(pair) || pair.length !== 2) continue;
    const name = nameOf(pair[0]);
    if (name !== undefined && matters(name)) found.take(name, pair[1]);
  }
}

function isText(value: unknown): boolean {
  return typeof value === 'string' || value instanceof Uint8Array;
}

/** A name as text, also where it came as octets. */
function nameOf(name: unknown): string | undefined {
  if (typeof name === 'string') return name;
  if (!(name instanceof Uint8Array) || name.length > 16) return undefined;
  return String.fromCharCode(...name);
}

/** What becomes of each of `HEADERS`: a text to set, `null` to be removed, `undefined` to stay. */
export type Changes = readonly [string | null | undefined, string | null | undefined, string | null | undefined];

/** Writes headers into a carrier, in place of what it has under any spelling of their names. False if it cannot be
 * written. */
export function write(carrier: any, changes: Changes): boolean {
  if (carrier === null || typeof carrier !== 'object') return false;
  try {
    return writeInto(carrier, changes);
  } catch {
    return false;
  }
}

function writeInto(carrier: any, changes: Changes): boolean {
  const prototype = Object.getPrototypeOf(carrier);
  if (prototype === Object.prototype || prototype === null) return writeObject(carrier, changes);
  switch (kindOf(carrier)) {
    case 'list':
      return writeList(carrier, changes);
    case 'pairs':
      return carrier instanceof Map && writeMap(carrier, changes);
    case 'headers':
      return apply(changes, (name, value) => (value === null ? carrier.delete(name) : carrier.set(name, value)));
    case 'metadata':
      return apply(changes, (name, value) => (value === null ? carrier.remove(name) : carrier.set(name, value)));
    case 'outgoing':
      return apply(changes, (name, value) =>
        value === null ? carrier.removeHeader(name) : carrier.setHeader(name, value),
      );
    case 'holder':
      return writeInto(carrier.headers, changes);
    case 'message':
      return false;
    default:
      return writeObject(carrier, changes);
  }
}

function apply(changes: Changes, change: (name: string, value: string | null) => void): boolean {
  for (let index = 0; index < 3; index++) {
    const value = changes[index];
    if (value !== undefined) change(HEADERS[index], value);
  }
  return true;
}

function writeObject(carrier: any, changes: Changes): boolean {
  let others: string[] | undefined;
  let variants: string[] | undefined;
  let isVariable = true;
  for (const name in carrier) {
    if (!Object.hasOwn(carrier, name)) continue;
    if (headerOf(name) !== undefined) (variants ??= []).push(name);
    else {
      (others ??= []).push(name);
      // Only where no name has a lower-case letter can another spelling be meant.
      isVariable = isVariable && name === name.toUpperCase();
    }
  }
  const names = isVariable && others !== undefined ? spelled(others) : HEADERS;
  for (let index = 0; index < 3; index++) {
    const value = changes[index];
    if (value === undefined) continue;
    if (variants !== undefined) {
      for (const name of variants) {
        if (headerOf(name) === HEADERS[index] && (value === null || name !== names[index])) delete carrier[name];
      }
    }
    if (value !== null) carrier[names[index]] = value;
  }
  return true;
}

/** How the headers are spelled beside these names: as in the environment of a process, of a CGI program, or of HTTP. */
function spelled(others: string[]): readonly string[] {
  // A few headers in upper case are no environment.
  if (!others.includes('PATH') && !others.includes('REQUEST_METHOD')) return HEADERS;
  const to = exchange();
  const request = captured(others, AMPLE);
  to.begin(0).octets(request);
  to.call(OP_SPELLING, 0);
  switch (to.word(0)) {
    case 1:
      return HEADERS.map((name) => name.toUpperCase());
    case 2:
      return HEADERS.map((name) => `HTTP_${name.toUpperCase()}`);
    default:
      return HEADERS;
  }
}

function writeMap(carrier: Map<unknown, unknown>, changes: Changes): boolean {
  const names = [...carrier.keys()].filter((name): name is string => typeof name === 'string');
  return apply(changes, (header, value) => {
    for (const name of names) {
      if (headerOf(name) === header && (value === null || name !== header)) carrier.delete(name);
    }
    if (value !== null) carrier.set(header, value);
  });
}

function writeList(carrier: unknown[], changes: Changes): boolean {
  if (carrier.length > 0 && !Array.isArray(carrier[0]) && isText(carrier[0])) return writeFlat(carrier, changes);
  return apply(changes, (header, value) => {
    for (let index = carrier.length - 1; index >= 0; index--) {
      const pair = carrier[index];
      const name = Array.isArray(pair) ? nameOf(pair[0]) : undefined;
      if (name !== undefined && headerOf(name) === header) carrier.splice(index, 1);
    }
    if (value !== null) carrier.push([header, value]);
  });
}

function writeFlat(carrier: unknown[], changes: Changes): boolean {
  return apply(changes, (header, value) => {
    for (let index = carrier.length - (carrier.length % 2) - 2; index >= 0; index -= 2) {
      const name = nameOf(carrier[index]);
      if (name !== undefined && headerOf(name) === header) carrier.splice(index, 2);
    }
    if (value !== null) carrier.push(header, value);
  });
}
