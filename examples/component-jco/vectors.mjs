// The host of the tests: tests/component/hosts.py has the protocol. node vectors.mjs TYPES

import { readFileSync } from "node:fs";

import * as context from "./generated/context.js";

const functions = JSON.parse(readFileSync(process.argv[2], "utf8"));
const camel = (name) => name.replace(/-(.)/g, (_, letter) => letter.toUpperCase());

class Reader {
  at = 0;
  constructor(bytes) {
    this.bytes = bytes;
  }
  move(count) {
    this.at += count;
    return this.at - count;
  }
  u8 = () => this.bytes.readUInt8(this.move(1));
  u32 = () => this.bytes.readUInt32LE(this.move(4));
  u64 = () => this.bytes.readBigUInt64LE(this.move(8));
  s64 = () => this.bytes.readBigInt64LE(this.move(8));
  f64 = () => this.bytes.readDoubleLE(this.move(8));
  bool = () => this.u8() === 1;
  octets = () => {
    const length = this.u32();
    const from = this.move(length);
    return this.bytes.subarray(from, from + length);
  };
  value([kind, inner]) {
    switch (kind) {
      case "string":
        return this.octets().toString("utf8");
      case "list":
        if (inner[0] === "u8") return new Uint8Array(this.octets());
        return Array.from({ length: this.u32() }, () => this.value(inner));
      case "option":
        return this.u8() ? this.value(inner) : undefined;
      case "tuple":
        return inner.map((one) => this.value(one));
      case "record":
        return Object.fromEntries(inner.map(([name, one]) => [camel(name), this.value(one)]));
      case "enum":
        return inner[this.u8()];
      case "variant": {
        const [tag, one] = inner[this.u8()];
        return one ? { tag, val: this.value(one) } : { tag };
      }
      default:
        return this[kind]();
    }
  }
}

class Writer {
  parts = [];
  number(length, write) {
    const bytes = Buffer.alloc(length);
    write(bytes);
    this.parts.push(bytes);
  }
  u8 = (value) => this.number(1, (bytes) => bytes.writeUInt8(value));
  u32 = (value) => this.number(4, (bytes) => bytes.writeUInt32LE(value));
  u64 = (value) => this.number(8, (bytes) => bytes.writeBigUInt64LE(value));
  s64 = (value) => this.number(8, (bytes) => bytes.writeBigInt64LE(value));
  f64 = (value) => this.number(8, (bytes) => bytes.writeDoubleLE(value));
  bool = (value) => this.u8(value ? 1 : 0);
  octets = (bytes) => {
    this.u32(bytes.length);
    this.parts.push(bytes);
  };
  value([kind, inner], value) {
    switch (kind) {
      case "string":
        return this.octets(Buffer.from(value, "utf8"));
      case "list":
        if (inner[0] === "u8") return this.octets(value);
        this.u32(value.length);
        return value.forEach((one) => this.value(inner, one));
      case "option":
        this.bool(value !== undefined);
        return value === undefined || this.value(inner, value);
      case "tuple":
        return inner.forEach((one, at) => this.value(one, value[at]));
      case "record":
        return inner.forEach(([name, one]) => this.value(one, value[camel(name)]));
      case "enum":
        return this.u8(inner.indexOf(value));
      case "variant": {
        const at = inner.findIndex(([tag]) => tag === value.tag);
        this.u8(at);
        return inner[at][1] && this.value(inner[at][1], value.val);
      }
      default:
        return this[kind](value);
    }
  }
}

function answer([face, name, params, result], bytes) {
  const reader = new Reader(bytes);
  const given = params.map((kind) => reader.value(kind));
  if (reader.at !== bytes.length) throw new Error("bytes are left over");
  const writer = new Writer();
  try {
    const value = context[face][camel(name)](...given);
    if (result[0] === "result") writer.u8(0);
    writer.value(result[0] === "result" ? result[1] : result, value);
  } catch (error) {
    // A result's bad case is thrown.
    if (result[0] !== "result" || !("payload" in error)) throw error;
    writer.u8(1);
    writer.value(result[2], error.payload);
  }
  return Buffer.concat(writer.parts);
}

let input = Buffer.alloc(0);
for await (const chunk of process.stdin) {
  input = Buffer.concat([input, chunk]);
  while (input.length >= 8 && input.length >= 8 + input.readUInt32LE(4)) {
    const end = 8 + input.readUInt32LE(4);
    const out = answer(functions[input.readUInt32LE(0)], input.subarray(8, end));
    const head = Buffer.alloc(4);
    head.writeUInt32LE(out.length);
    process.stdout.write(Buffer.concat([head, out]));
    input = input.subarray(end);
  }
}
