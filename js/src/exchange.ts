/** Operations of the backend: requests are written into the shared memory, answers are read from there. */

// How the backend is loaded in this runtime.
import './native.js';

import { camel } from './arguments.js';
import { backend, type Backend } from './backend.js';
import { Writer, octetsOf, type Blob } from './bytes.js';
import { TreeReader, writeTree, type Caps } from './tree.js';

/** The shared memory and the operations on it. There is one for the process. */
export class Exchange {
  readonly backend: Backend;
  /** Writes the request. Nothing of a program's may run between the first byte of a request and the last one of its
   * answer: that could be another request. */
  readonly memory: Writer;

  constructor(with_: Backend) {
    this.backend = with_;
    this.memory = new Writer(with_.memory(), (bytes) => with_.reserve(Math.max(bytes, 2 * this.memory.bytes.length)));
  }

  /** A writer for a new request whose first `words` words are to be set through `view`. */
  begin(words: number): Writer {
    const memory = this.memory;
    if (memory.bytes.length === 0) memory.reset(this.backend.memory());
    memory.at = 0;
    memory.need(4 * words);
    memory.at = 4 * words;
    return memory;
  }

  /** Runs an operation on what was written; the length of the answer.
   *
   * @throws what the operation says is wrong
   */
  call(op: number, tracer: number): number {
    const memory = this.memory;
    const length = this.backend.call(op, tracer, memory.at);
    const size = length < 0 ? -length : length;
    if (size > memory.bytes.length || memory.bytes.length === 0) memory.reset(this.backend.memory());
    if (length < 0) throw errorOf(new TreeReader(memory.bytes).value());
    return length;
  }

  /** Runs an operation whose request is a tree of ours, and whose answer is one.
   *
   * @throws what the operation says is wrong
   */
  ask(op: number, tracer: number, request: Blob | undefined): any {
    const memory = this.begin(0);
    if (request !== undefined) memory.octets(request);
    const length = this.call(op, tracer);
    return length === 0 ? undefined : new TreeReader(memory.bytes).value();
  }

  /** The octets of an answer. */
  octets(from: number, to: number): Blob {
    return octetsOf(this.memory.bytes, from, to);
  }

  /** A word of an answer. */
  word(index: number): number {
    return this.memory.view.getUint32(4 * index, true);
  }
}

let present: Exchange | undefined;

/** The exchange of this process; loads the backend.
 *
 * @throws Error if there is none for this platform.
 */
export function exchange(): Exchange {
  return (present ??= new Exchange(backend()));
}

/** The exchange, if it was needed before. */
export function loadedExchange(): Exchange | undefined {
  return present;
}

function errorOf(told: { kind: string; message: string; argument?: string | null }): Error {
  // Core spells arguments as Python does.
  const { argument } = told;
  const message = argument ? `${camel(argument)} ${told.message}` : told.message;
  switch (told.kind) {
    case 'type':
      return new TypeError(message);
    case 'value':
      return new RangeError(message);
    default:
      return new Error(`tracebaton: ${message}`);
  }
}

/** Where trees are made of values that may run a program's code: such code may capture values itself, which are then
 * written behind what is there. */
const scratch = new Writer(new Uint8Array(16 * 1024));
const SCRATCH_KEPT = 1024 * 1024;

/** The tree of a value, as octets. */
export function captured(value: unknown, caps: Caps): Blob {
  const from = scratch.at;
  try {
    writeTree(scratch, value, caps);
    return octetsOf(scratch.bytes, from, scratch.at);
  } finally {
    scratch.at = from;
    // One huge value does not hold its memory for ever.
    if (from === 0 && scratch.bytes.length > SCRATCH_KEPT) scratch.reset(new Uint8Array(16 * 1024));
  }
}
