/** New ids, from the operating system's entropy: hex digits from Rust, of which ids are slices. */

import { exchange } from './exchange.js';
import { OP_IDS } from './protocol.js';

/** 256 traces, or 512 spans. A slice keeps its pool alive: so it is a small one. */
const DIGITS = 8192;

let pool = '';
let next = 0;

/** Thirty-two hex digits. */
export function newTraceId(): string {
  return taken(32);
}

/** Sixteen hex digits. */
export function newSpanId(): string {
  return taken(16);
}

function taken(digits: number): string {
  if (next + digits > pool.length) refill();
  const from = next;
  next = from + digits;
  const id = pool.slice(from, next);
  // One in 2^64.
  return ZEROS.test(id) ? taken(digits) : id;
}

const ZEROS = /^0+$/;

function refill(): void {
  const to = exchange();
  to.begin(1).view.setUint32(0, DIGITS, true);
  const length = to.call(OP_IDS, 0);
  pool = to.octets(0, length);
  next = 0;
}
