// The other side of the exchange, as small as it can be: for tests of the addon alone. The package's own is in js/src.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { addonFile } from '../platform.mjs';

export const addonPath = process.env.TRACEBATON_NATIVE_PATH ?? fileURLToPath(new URL(`../${addonFile()}`, import.meta.url));
export const addon = createRequire(import.meta.url)(addonPath);

export const OP = { INIT: 1, DROP: 2, EXTRACT: 3, STATS: 11, MEMORY: 12, REPORTS: 13, INSTRUMENTATION: 16, RECORD_START: 22, RECORD: 23 };

export class Bytes {
  bytes = [];
  byte(value) {
    this.bytes.push(value);
    return this;
  }
  raw(value) {
    for (const byte of typeof value === 'string' ? Buffer.from(value) : value) this.bytes.push(byte);
    return this;
  }
  word(value) {
    return this.raw([value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24]);
  }
  double(value) {
    const buffer = Buffer.alloc(8);
    buffer.writeDoubleLE(value);
    return this.raw(buffer);
  }
  text(value) {
    const bytes = Buffer.from(value);
    return this.word(bytes.length).raw(bytes);
  }
  tree(value) {
    if (value === null) return this.byte(0);
    if (typeof value === 'boolean') return this.byte(value ? 2 : 1);
    if (typeof value === 'string') return this.byte(5).text(value);
    if (Number.isInteger(value)) {
      const buffer = Buffer.alloc(8);
      buffer.writeBigInt64LE(BigInt(value));
      return this.byte(3).raw(buffer);
    }
    if (typeof value === 'number') return this.byte(4).double(value);
    if (Array.isArray(value)) {
      this.byte(7).word(value.length);
      for (const item of value) this.tree(item);
      return this;
    }
    const entries = Object.entries(value);
    this.byte(8).word(entries.length);
    for (const [key, item] of entries) this.text(key).tree(item);
    return this;
  }
}

export function readTree(buffer, at = { offset: 0 }) {
  const word = () => buffer.readUInt32LE((at.offset += 4) - 4);
  const text = () => {
    const length = word();
    return buffer.toString('utf8', at.offset, (at.offset += length));
  };
  const kind = buffer[at.offset++];
  switch (kind) {
    case 0:
      return null;
    case 1:
    case 2:
      return kind === 2;
    case 3:
      return Number(buffer.readBigInt64LE((at.offset += 8) - 8));
    case 4:
      return buffer.readDoubleLE((at.offset += 8) - 8);
    case 5:
      return text();
    case 7:
      return Array.from({ length: word() }, () => readTree(buffer, at));
    case 8: {
      const out = {};
      for (let left = word(); left > 0; left--) {
        const key = text();
        out[key] = readTree(buffer, at);
      }
      return out;
    }
    default:
      throw new Error(`no tree: ${kind}`);
  }
}

/** Runs an operation: whether it has an answer, and the answer or error. */
export function call(op, tracer = 0, request = new Bytes()) {
  const bytes = request.bytes;
  const memory = addon.reserve(bytes.length);
  memory.set(bytes);
  const length = addon.call(op, tracer, bytes.length);
  return { ok: length >= 0, answer: Buffer.from(addon.memory().subarray(0, Math.abs(length))) };
}

export const ask = (op, tracer, request) => readTree(call(op, tracer, request).answer);

export function init(options) {
  const { ok, answer } = call(OP.INIT, 0, new Bytes().tree({ default_service: 'test', env: {}, ...options }));
  if (!ok) throw new Error(JSON.stringify(readTree(answer)));
  const handle = answer.readUInt32LE(0);
  return { handle, ...readTree(answer, { offset: 4 }) };
}

export const instrumentation = (name) => call(OP.INSTRUMENTATION, 0, new Bytes().tree({ name })).answer.readUInt32LE(0);

/** A span record. */
export function record(tracer, library, name, attributes = {}) {
  const flags = addon.start(tracer, -1);
  const ids = Buffer.from(addon.memory().subarray(0, 48));
  const body = new Bytes().word(tracer).word(library).word((flags & 0xff) << 8);
  body.double(Date.now()).double(0).double(Date.now()).double(1).raw(ids).text(name);
  for (const [key, value] of Object.entries(attributes)) body.byte(1).text(key).tree(value);
  return new Bytes().word(body.bytes.length).raw(body.bytes).bytes;
}

export function submit(...records) {
  const chunk = Uint8Array.from(records.flat());
  addon.submit(chunk, chunk.length);
}
