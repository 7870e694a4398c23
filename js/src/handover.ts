/**
 * Handing ended spans over to Rust: records gather in a chunk of bytes, which goes when it is full, some milliseconds
 * after its first record, when somebody flushes, and at the end of the process.
 */

import { Writer } from './bytes.js';
import { count } from './core.js';
import { exchange, loadedExchange } from './exchange.js';
import { COUNT_TOO_LARGE, OP_FORGET, OP_RECORD, OP_RECORD_START } from './protocol.js';
import { Shared, writeRecord } from './record.js';
import type { Span } from './span.js';

/** So many bytes are handed over at once. */
const CHUNK = 64 * 1024;
/** So many milliseconds a record waits at most, as far as the event loop lets anything run. */
const DELAY_MS = 10;
/** No span is larger: it would fill a whole queue. */
const MAX_RECORD = 32 * 1024 * 1024;
/** How long the end of the process waits for delivery, in milliseconds. */
const EXIT_MS = 5_000;

const { setTimeout, clearTimeout } = globalThis;

const chunk = new Writer(new Uint8Array(CHUNK + 16 * 1024));
const shared = new Shared();
let timer: any;
let watchesExit = false;

/** Takes a span that has ended. */
export function handOver(span: Span): void {
  if (span.core.spools) return record(span);
  const from = chunk.at;
  try {
    writeRecord(chunk, span, shared);
  } catch (error) {
    // A value that throws was captured before: nothing here does, but half a record must not stay.
    chunk.at = from;
    shared.clear();
    throw error;
  }
  if (chunk.at - from > MAX_RECORD) {
    chunk.at = from;
    shared.clear();
    count(span.core.handle, COUNT_TOO_LARGE, 1);
  }
  if (chunk.at >= CHUNK) submitChunk();
  else if (timer === undefined) wait();
}

function wait(): void {
  timer = setTimeout(submitChunk, DELAY_MS);
  timer.unref?.();
}

/** Hands over what has gathered. */
export function submitChunk(): void {
  if (timer !== undefined) {
    clearTimeout(timer);
    timer = undefined;
  }
  const length = chunk.at;
  if (length === 0) return;
  chunk.at = 0;
  shared.clear();
  exchange().backend.submit(chunk.bytes, length);
  if (chunk.bytes.length > 16 * CHUNK) chunk.reset(new Uint8Array(CHUNK + 16 * 1024));
}

/** With a spool: the span is in it when this returns. */
function record(span: Span): void {
  const to = exchange();
  const request = to.begin(1);
  writeRecord(request, span, undefined);
  request.view.setUint32(0, span.startToken, true);
  to.call(OP_RECORD, span.core.handle);
}

/** With a spool: records that a span has begun. */
export function recordStart(span: Span): void {
  const to = exchange();
  span.startsAsEnd();
  writeRecord(to.begin(0), span, undefined);
  to.call(OP_RECORD_START, span.core.handle);
  span.startToken = to.word(0);
}

/** With a spool: the span will not be recorded. */
export function forgetStart(span: Span): void {
  if (span.startToken === 0) return;
  const to = exchange();
  to.begin(1).view.setUint32(0, span.startToken, true);
  to.call(OP_FORGET, span.core.handle);
  span.startToken = 0;
}

/** Has the end of the process deliver what there is. Signals keep their meaning: they are not listened to. */
export function watchExit(): void {
  const { process } = globalThis as any;
  if (watchesExit || typeof process?.on !== 'function') return;
  watchesExit = true;
  process.on('exit', () => {
    const to = loadedExchange();
    if (to === undefined) return;
    try {
      submitChunk();
      to.backend.flushAtExit(EXIT_MS);
    } catch {
      // The process ends in any case.
    }
  });
}
