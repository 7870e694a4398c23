/** Writing values into bytes, little-endian, and reading them: the forms that all records and trees consist of. */

/** Node's `Buffer`, where there is one: its methods cross into C++ for long texts only. */
const NodeBuffer: any = nodeBuffer();

/** A runtime may have one that has not all of these methods, or wants more of them. */
function nodeBuffer(): any {
  const { Buffer } = globalThis as any;
  try {
    const trial = Buffer.from([0, 0, 0, 0]);
    trial.utf8Write('a', 1);
    trial.latin1Write('b', 2);
    return trial.latin1Slice(1, 3) === 'ab' && trial.utf8Slice(1, 3) === 'ab' ? Buffer : undefined;
  } catch {
    return undefined;
  }
}

/** Below this many UTF-16 units a loop is quicker than a call out of JavaScript. */
const SHORT = 32;

const OCTETS = /^[\u0000-\u00ff]*$/;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** Bytes that Rust wrote and that JavaScript only passes back: one octet in each character, which V8 copies quicker than
 * it makes a typed array. */
export type Blob = string;

/** A cursor over bytes that grow as they fill up. */
export class Writer {
  bytes: Uint8Array;
  view: DataView;
  /** Where the next byte goes. */
  at = 0;
  private readonly grow: (bytes: number, used: number) => Uint8Array;

  /** `grow` gives bytes of at least this size that begin with the first `used` ones of the present ones. */
  constructor(bytes: Uint8Array, grow: (bytes: number, used: number) => Uint8Array = regrown) {
    this.bytes = asBuffer(bytes);
    this.view = viewOf(this.bytes);
    this.grow = grow === regrown ? (size, used) => regrown.call(this, size, used) : grow;
  }

  /** Begins anew at the start of these bytes. */
  reset(bytes: Uint8Array): void {
    this.at = 0;
    if (bytes !== this.bytes) {
      this.bytes = asBuffer(bytes);
      this.view = viewOf(this.bytes);
    }
  }

  /** Makes room for so many bytes more. */
  need(more: number): void {
    if (this.at + more > this.bytes.length) {
      this.bytes = asBuffer(this.grow(this.at + more, this.at));
      this.view = viewOf(this.bytes);
    }
  }

  u8(value: number): void {
    this.need(1);
    this.bytes[this.at++] = value;
  }

  u16(value: number): void {
    this.need(2);
    this.view.setUint16(this.at, value, true);
    this.at += 2;
  }

  u32(value: number): void {
    this.need(4);
    this.view.setUint32(this.at, value, true);
    this.at += 4;
  }

  f64(value: number): void {
    this.need(8);
    this.view.setFloat64(this.at, value, true);
    this.at += 8;
  }

  /** A safe integer as i64. */
  i64(value: number): void {
    this.need(8);
    const at = this.at;
    this.view.setInt32(at, value | 0, true);
    this.view.setInt32(at + 4, (value | 0) === value ? value >> 31 : Math.floor(value / 4294967296), true);
    this.at = at + 8;
  }

  /** A text as its length in bytes (u32) and UTF-8. */
  text(text: string): void {
    this.need(4 + 3 * text.length);
    const at = this.at;
    this.at = at + 4;
    this.view.setUint32(at, this.plain(text), true);
  }

  /** A byte, and a text as `text` writes it. */
  taggedText(tag: number, text: string): void {
    const { length } = text;
    this.need(5 + 3 * length);
    const from = this.at + 5;
    this.bytes[this.at] = tag;
    if (length <= SHORT) {
      const { bytes } = this;
      let index = 0;
      for (; index < length; index++) {
        const unit = text.charCodeAt(index);
        if (unit > 127) break;
        bytes[from + index] = unit;
      }
      if (index === length) {
        this.view.setUint32(this.at + 1, length, true);
        this.at = from + length;
        return;
      }
    }
    const written = utf8(this.bytes, text, from);
    this.view.setUint32(this.at + 1, written, true);
    this.at = from + written;
  }

  /** A text as UTF-8 without its length, which is returned: in bytes. Lone surrogates become U+FFFD. */
  plain(text: string): number {
    const length = text.length;
    this.need(3 * length);
    const from = this.at;
    if (length <= SHORT) {
      const bytes = this.bytes;
      let index = 0;
      for (; index < length; index++) {
        const unit = text.charCodeAt(index);
        if (unit > 127) break;
        bytes[from + index] = unit;
      }
      if (index === length) {
        this.at = from + length;
        return length;
      }
    }
    const written = utf8(this.bytes, text, from);
    this.at = from + written;
    return written;
  }

  /** The value of a header, without its length, which is returned: in bytes. Node and `fetch` have one octet in each
   * character; a text that has others is no header of theirs, and UTF-8. */
  header(text: string): number {
    const from = this.at;
    const written = this.plain(text);
    if (written === text.length || !OCTETS.test(text)) return written;
    latin1(this.bytes, text, from);
    this.at = from + text.length;
    return text.length;
  }

  /** The octets of a text whose characters are octets, without a length. */
  octets(text: string): void {
    const length = text.length;
    this.need(length);
    latin1(this.bytes, text, this.at);
    this.at += length;
  }

  /** Bytes, without a length. */
  raw(bytes: Uint8Array): void {
    this.need(bytes.length);
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
  }
}

function regrown(this: Writer | void, size: number, used: number): Uint8Array {
  const writer = this as Writer;
  const bytes = new Uint8Array(Math.max(size, 2 * writer.bytes.length));
  bytes.set(writer.bytes.subarray(0, used));
  return bytes;
}

/** The same bytes as a `Buffer`, where there is such a thing. */
export function asBuffer(bytes: Uint8Array): Uint8Array {
  if (NodeBuffer === undefined || bytes instanceof NodeBuffer) return bytes;
  return NodeBuffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Writes UTF-8 and says how many bytes that took. */
const utf8: (bytes: any, text: string, at: number) => number =
  NodeBuffer === undefined
    ? (bytes, text, at) => encoder.encodeInto(text, bytes.subarray(at)).written
    : (bytes, text, at) => bytes.utf8Write(text, at);

const latin1: (bytes: any, text: string, at: number) => void =
  NodeBuffer === undefined
    ? latin1Loop
    : (bytes, text, at) => {
        if (text.length <= SHORT) latin1Loop(bytes, text, at);
        else bytes.latin1Write(text, at);
      };

function latin1Loop(bytes: Uint8Array, text: string, at: number): void {
  for (let index = 0; index < text.length; index++) bytes[at + index] = text.charCodeAt(index);
}

/** The text of octets, one in each character. `bytes` is a `Buffer` where there is such a thing. */
export const octetsOf: (bytes: any, from: number, to: number) => Blob =
  NodeBuffer === undefined
    ? (bytes: Uint8Array, from, to) => {
        let text = '';
        for (let at = from; at < to; at += 4096) {
          text += String.fromCharCode(...bytes.subarray(at, Math.min(to, at + 4096)));
        }
        return text;
      }
    : (bytes, from, to) => bytes.latin1Slice(from, to);

/** The octets of such a text as bytes. */
export function bytesOf(octets: Blob): Uint8Array {
  const bytes = NodeBuffer === undefined ? new Uint8Array(octets.length) : NodeBuffer.allocUnsafe(octets.length);
  latin1(bytes, octets, 0);
  return bytes;
}

/** The text of UTF-8 bytes. */
export const textOf: (bytes: any, from: number, to: number) => string =
  NodeBuffer === undefined
    ? (bytes: Uint8Array, from, to) => decoder.decode(bytes.subarray(from, to))
    : (bytes, from, to) => bytes.utf8Slice(from, to);
