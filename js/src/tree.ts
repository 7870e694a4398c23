/**
 * Trees of values: options and answers of operations, and whatever a program gives us to capture. The encoding is in
 * `protocol.ts`.
 *
 * Values that are captured are a program's own: they may be endless, refer to themselves, or throw when they are looked
 * at. None of that leaves `writeTree`.
 */

import { Writer, textOf } from './bytes.js';
import { standInFor } from './runtime.js';

/** How much of a value is looked at. It is more than core keeps, which cuts to the tracer's limits in its own way: this
 * only bounds the time that a value can take from the event loop. */
export interface Caps {
  /** Lists and maps, one inside the other. */
  readonly depth: number;
  /** Values in all. */
  readonly nodes: number;
  /** UTF-16 units of texts, and bytes, in all. */
  readonly size: number;
}

/** Caps for values that are ours, or as small as options of `init`. */
export const AMPLE: Caps = { depth: 64, nodes: 100_000, size: 16 * 1024 * 1024 };

const NULL = 0;
const FALSE = 1;
const TRUE = 2;
const INT = 3;
const DOUBLE = 4;
const TEXT = 5;
const BYTES = 6;
const LIST = 7;
const MAP = 8;

const CIRCULAR = '[circular]';
const UNREADABLE = '[unreadable]';
const TOO_DEEP = '[too deep]';

/** Writes a value. Nothing that the value does is thrown. */
export function writeTree(writer: Writer, value: unknown, caps: Caps): void {
  if (writeScalar(writer, value, caps.size)) return;
  new TreeWriter(writer, caps).value(value, 0);
}

/** Writes null, a boolean, a number or a text; whether it was one of them. */
export function writeScalar(writer: Writer, value: unknown, size: number): boolean {
  switch (typeof value) {
    case 'string':
      writer.u8(TEXT);
      writer.text(value.length > size ? value.slice(0, size) : value);
      return true;
    case 'number':
      writeNumber(writer, value);
      return true;
    case 'boolean':
      writer.u8(value ? TRUE : FALSE);
      return true;
    case 'undefined':
      writer.u8(NULL);
      return true;
    case 'object':
      if (value !== null) return false;
      writer.u8(NULL);
      return true;
    default:
      return false;
  }
}

function writeNumber(writer: Writer, value: number): void {
  // Minus zero is no integer.
  if (Number.isSafeInteger(value) && !Object.is(value, -0)) {
    writer.u8(INT);
    writer.i64(value);
  } else {
    writer.u8(DOUBLE);
    writer.f64(value);
  }
}

class TreeWriter {
  private readonly writer: Writer;
  private readonly depth: number;
  private nodes: number;
  private size: number;
  /** The lists and maps around the one that is being written. */
  private readonly around: object[] = [];

  constructor(writer: Writer, caps: Caps) {
    this.writer = writer;
    this.depth = caps.depth;
    this.nodes = caps.nodes;
    this.size = caps.size;
  }

  /** Writes a value; `opened` counts how often one has stood for another, as `toJSON` has it. */
  value(value: unknown, opened: number): void {
    this.nodes--;
    if (typeof value === 'string') this.text(value);
    else if (writeScalar(this.writer, value, this.size)) return;
    else if (typeof value === 'bigint') this.bigint(value);
    else if (typeof value === 'symbol') this.text(value.toString());
    else if (typeof value === 'function') this.text(describeFunction(value));
    else this.object(value as object, opened);
  }

  private text(text: string): void {
    const kept = text.length > this.size ? text.slice(0, this.size) : text;
    this.size -= kept.length;
    this.writer.u8(TEXT);
    this.writer.text(kept);
  }

  private bytes(bytes: Uint8Array): void {
    const kept = bytes.length > this.size ? bytes.subarray(0, this.size) : bytes;
    this.size -= kept.length;
    this.writer.u8(BYTES);
    this.writer.u32(kept.length);
    this.writer.raw(kept);
  }

  private bigint(value: bigint): void {
    if (value < -(2n ** 63n) || value >= 2n ** 63n) return this.text(value.toString());
    this.writer.u8(INT);
    this.writer.need(8);
    this.writer.view.setBigInt64(this.writer.at, value, true);
    this.writer.at += 8;
  }

  private object(value: object, opened: number): void {
    if (this.around.includes(value)) return this.text(CIRCULAR);
    if (this.around.length >= this.depth) return this.text(TOO_DEEP);
    this.around.push(value);
    try {
      this.open(value, opened);
    } finally {
      this.around.pop();
    }
  }

  private open(value: object, opened: number): void {
    let part: unknown;
    try {
      if (Array.isArray(value)) part = new List(value.length, value);
      else part = isPlain(value) ? value : stoodFor(value);
    } catch {
      part = UNREADABLE;
    }
    if (part instanceof List) this.list(part);
    else if (part instanceof Entries) this.entries(part.entries);
    else if (part instanceof Uint8Array) this.bytes(part);
    else if (part === value) this.fields(value);
    // What stands for a value may itself be of any kind: not for ever.
    else if (opened > 4) this.text(UNREADABLE);
    else this.value(part, opened + 1);
  }

  private list(list: List): void {
    this.writer.u8(LIST);
    const count = this.counter();
    let written = 0;
    for (; written < list.length && this.nodes > 0; written++) {
      this.value(read(list.items, written), 0);
    }
    this.count(count, written);
  }

  private entries(entries: Iterable<[unknown, unknown]>): void {
    this.writer.u8(MAP);
    const count = this.counter();
    let written = 0;
    for (const [key, value] of entries) {
      if (this.nodes <= 0) break;
      this.key(keyOf(key));
      this.value(value, 0);
      written++;
    }
    this.count(count, written);
  }

  private fields(value: object): void {
    let keys: string[];
    try {
      keys = Object.keys(value);
    } catch {
      return this.text(UNREADABLE);
    }
    this.writer.u8(MAP);
    const count = this.counter();
    let written = 0;
    for (const key of keys) {
      if (this.nodes <= 0) break;
      const field = read(value, key);
      // As JSON has it: a field that is not there.
      if (field === undefined) continue;
      this.key(key);
      this.value(field, 0);
      written++;
    }
    this.count(count, written);
  }

  private key(key: string): void {
    const kept = key.length > this.size ? key.slice(0, this.size) : key;
    this.size -= kept.length;
    this.writer.text(kept);
  }

  /** Leaves room for a count, and says where. */
  private counter(): number {
    const at = this.writer.at;
    this.writer.u32(0);
    return at;
  }

  private count(at: number, count: number): void {
    this.writer.view.setUint32(at, count, true);
  }
}

class List {
  constructor(
    readonly length: number,
    readonly items: object,
  ) {}
}

class Entries {
  constructor(readonly entries: Iterable<[unknown, unknown]>) {}
}

function read(object: object, key: string | number): unknown {
  try {
    return (object as any)[key];
  } catch {
    return UNREADABLE;
  }
}

function keyOf(key: unknown): string {
  try {
    return typeof key === 'symbol' ? key.toString() : String(key);
  } catch {
    return UNREADABLE;
  }
}

function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return (prototype === Object.prototype || prototype === null) && typeof (value as any).toJSON !== 'function';
}

/** What says best what an object holds that is no plain one: a basic value, a list, entries, bytes, or itself for its
 * fields. May throw what the object throws. */
function stoodFor(value: any): unknown {
  if (value instanceof Uint8Array) return value;
  if (ArrayBuffer.isView(value)) {
    if (value instanceof DataView) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return new List((value as any).length, value);
  }
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString();
  if (value instanceof Map) return new Entries(value.entries());
  if (value instanceof Set) return new List(value.size, [...firstOf(value)]);
  if (value instanceof Error) return errorFields(value);
  if (typeof value.toJSON === 'function') return value.toJSON();
  if (value instanceof String || value instanceof Number || value instanceof Boolean) return value.valueOf();
  if (value instanceof RegExp || value instanceof URL) return String(value);
  const tag = value[Symbol.toStringTag];
  // Reading these uses nothing up, unlike an iterator.
  if (tag === 'Headers' || tag === 'URLSearchParams' || tag === 'FormData') return new Entries(value.entries());
  const standIn = standInFor(value);
  if (standIn !== undefined) return standIn;
  if (Object.keys(value).length > 0) return value;
  const name = value.constructor?.name;
  return `[${typeof tag === 'string' ? tag : typeof name === 'string' && name !== '' ? name : 'object'}]`;
}

/** Items that a set holds, as many as anybody looks at. */
function* firstOf(set: Set<unknown>): Iterable<unknown> {
  let left = AMPLE.nodes;
  for (const item of set) {
    if (left-- <= 0) return;
    yield item;
  }
}

function errorFields(error: Error): object {
  const fields: Record<string, unknown> = { name: error.name, message: error.message };
  if (error.cause !== undefined) fields['cause'] = error.cause;
  return Object.assign(Object.create(null), fields, error);
}

function describeFunction(value: Function): string {
  try {
    return `[function ${value.name || 'anonymous'}]`;
  } catch {
    return '[function]';
  }
}

/** A value that was written by `writeTree` or by Rust, and where it ends. */
export class TreeReader {
  at: number;
  private readonly bytes: Uint8Array;
  private readonly view: DataView;

  constructor(bytes: Uint8Array, at = 0) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = at;
  }

  u32(): number {
    const value = this.view.getUint32(this.at, true);
    this.at += 4;
    return value;
  }

  text(): string {
    const length = this.u32();
    const from = this.at;
    this.at += length;
    return textOf(this.bytes, from, this.at);
  }

  /** Integers beyond those that a number holds exactly are `bigint`s. */
  value(): any {
    const kind = this.bytes[this.at++];
    switch (kind) {
      case NULL:
        return null;
      case FALSE:
        return false;
      case TRUE:
        return true;
      case INT: {
        const exact = this.view.getBigInt64(this.at, true);
        this.at += 8;
        const value = Number(exact);
        return Number.isSafeInteger(value) ? value : exact;
      }
      case DOUBLE: {
        const value = this.view.getFloat64(this.at, true);
        this.at += 8;
        return value;
      }
      case TEXT:
        return this.text();
      case BYTES: {
        const length = this.u32();
        const from = this.at;
        this.at += length;
        return Uint8Array.from(this.bytes.subarray(from, this.at));
      }
      case LIST: {
        const list: unknown[] = [];
        for (let left = this.u32(); left > 0; left--) list.push(this.value());
        return list;
      }
      case MAP: {
        const map: Record<string, unknown> = {};
        for (let left = this.u32(); left > 0; left--) {
          const key = this.text();
          // A key such as `__proto__` is a key like any other.
          Object.defineProperty(map, key, {
            value: this.value(),
            enumerable: true,
            writable: true,
            configurable: true,
          });
        }
        return map;
      }
      default:
        throw new RangeError(`no such kind of value: ${kind}`);
    }
  }
}
