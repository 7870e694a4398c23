/**
 * Handing ended spans over to Rust: records gather in a chunk of bytes, which goes when it is full, some milliseconds
 * after its first record, when somebody flushes, and at the end of the process.
 */

import { Writer } from './bytes.js';
import { REQUEST_KEY } from './context.js';
import { count } from './core.js';
import { exchange, loadedExchange } from './exchange.js';
import type { Context } from './otel-types.js';
import { COUNT_TOO_LARGE, OP_FORGET, OP_RECORD, OP_RECORD_START } from './protocol.js';
import { Shared, writeRecord } from './record.js';
import { PAGE_ORIGIN, PER_REQUEST, reading } from './runtime.js';
import type { Span } from './span.js';

/** So many bytes are handed over at once. */
const CHUNK = 64 * 1024;
/** So many milliseconds a record waits at most, as far as the event loop lets anything run. */
const DELAY_MS = 10;
/** No span is larger: it would fill a whole queue. */
const MAX_RECORD = 32 * 1024 * 1024;
/** How long the end of the process waits for delivery, in milliseconds. */
const EXIT_MS = 5_000;

/** How long a request's spans are tried to be delivered when it is over: Workers give 30 s. */
const REQUEST_MS = 25_000;
/** How long spans that end after their request wait for others. */
const LATE_MS = 50;

const { setTimeout, clearTimeout } = globalThis;

/** Records that gather, and the outbox that they go into. */
export class Mailing {
  outbox: number;
  private readonly size: number;
  private readonly chunk: Writer;
  private readonly shared = new Shared();
  private timer: any;

  constructor(outbox: number, size: number) {
    this.outbox = outbox;
    this.size = size;
    this.chunk = new Writer(new Uint8Array(size));
  }

  /** Whether nothing has gathered. */
  get isEmpty(): boolean {
    return this.chunk.at === 0;
  }

  /** Takes a span that has ended. */
  take(span: Span): void {
    const { chunk, shared } = this;
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
    if (chunk.at >= CHUNK) this.submit();
    else if (this.timer === undefined && !PER_REQUEST) {
      this.timer = setTimeout(() => this.submit(), DELAY_MS);
      this.timer.unref?.();
    }
  }

  /** Hands over what has gathered. */
  submit(): void {
    if (this.timer !== undefined) {
      clearTimeout(this.timer);
      this.timer = undefined;
    }
    const { chunk } = this;
    const length = chunk.at;
    if (length === 0) return;
    chunk.at = 0;
    this.shared.clear();
    exchange().backend.submit(chunk.bytes, length, this.outbox);
    if (chunk.bytes.length > 16 * CHUNK) chunk.reset(new Uint8Array(this.size));
  }
}

let outboxes = 0;

/** Where each request has its own. */
export class RequestMailing extends Mailing {
  private readonly ctx: Ctx;
  private isFinished = false;
  private isLate = false;
  private underWay = 0;

  constructor(ctx: Ctx) {
    super(++outboxes, 2048);
    this.ctx = ctx;
  }

  override take(span: Span): void {
    super.take(span);
    if (this.isFinished && !this.isLate) {
      this.isLate = true;
      const later = new Promise((resolve) => setTimeout(resolve, LATE_MS));
      this.waitUntil(
        later.then(() => {
          this.isLate = false;
          return this.deliver(REQUEST_MS);
        }),
      );
    }
  }

  /** The request is over: what it has recorded is delivered while the runtime waits for that. */
  finish(): void {
    this.isFinished = true;
    this.waitUntil(this.deliver(REQUEST_MS));
  }

  /** Delivers what it holds; true only if all of it was delivered in time. */
  async deliver(timeoutMs: number): Promise<boolean> {
    this.underWay++;
    try {
      this.submit();
      return (await exchange().backend.deliver?.(this.outbox, 0, timeoutMs, false)) !== false;
    } catch {
      return false;
    } finally {
      if (--this.underWay === 0) exchange().backend.close?.(this.outbox);
    }
  }

  private waitUntil(promise: Promise<unknown>): void {
    try {
      this.ctx.waitUntil(promise);
    } catch {
      // Too late: the request is gone, or it is none.
    }
  }
}

/** What of a Worker's `ctx` is used. */
export interface Ctx {
  waitUntil(promise: Promise<unknown>): void;
}

/** What is recorded outside of requests. */
const own = new Mailing(PER_REQUEST ? ++outboxes : 0, PER_REQUEST ? 2048 : CHUNK + 16 * 1024);

/** What records the spans of a context. */
export function mailingOf(context: Context): Mailing {
  return (context.getValue(REQUEST_KEY) as Mailing | undefined) ?? own;
}

/** What is told about sessions next goes where the spans of this context go. */
export function chooseOutbox(context: Context): void {
  const { backend } = exchange();
  if (backend.choose !== undefined) backend.choose(mailingOf(context).outbox);
}

/** Takes a span that has ended. */
export function handOver(span: Span): void {
  if (span.core.spools) record(span);
  else if (PER_REQUEST && span.mailing !== undefined) span.mailing.take(span);
  else own.take(span);
  if (isLeaving) leave(false);
}

/** Hands over what has gathered, but for requests under way. */
export function submitChunk(): void {
  own.submit();
}

/** Where each request has an outbox: delivers what this request has recorded, and what was recorded outside of all. */
export async function deliverHere(context: Context, timeoutMs: number): Promise<boolean> {
  const here = context.getValue(REQUEST_KEY);
  own.submit();
  const { outbox } = own;
  // Others that ask meanwhile do not wait for this request.
  own.outbox = ++outboxes;
  const { backend } = exchange();
  const all = [backend.deliver!(outbox, 0, timeoutMs, false)];
  if (here instanceof RequestMailing) all.push(here.deliver(timeoutMs));
  const done = await Promise.all(all);
  backend.close!(outbox);
  return done.every(Boolean);
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

let watchesExit = false;

/** Has a page deliver what there is when it is hidden: nobody knows whether it will be shown again. */
function watchPage(): void {
  const leave = (): void => {
    if (loadedExchange() === undefined) return;
    own.submit();
    void exchange().backend.flush(0, EXIT_MS);
  };
  const page: any = globalThis;
  page.addEventListener('pagehide', leave);
  page.document.addEventListener('visibilitychange', () => {
    if (page.document.visibilityState === 'hidden') leave();
  });
}

/** Has the end of the process deliver what there is. Signals keep their meaning: they are not listened to. */
export function watchExit(): void {
  const { process } = globalThis as any;
  if (watchesExit || PER_REQUEST) return;
  watchesExit = true;
  if (PAGE_ORIGIN !== undefined) return watchPage();
  if (typeof process?.on !== 'function') return;
  process.on('beforeExit', () => {
    const to = loadedExchange();
    // What cannot block delivers while the loop still runs. Once: then there is nothing left.
    if (to?.backend.kind !== 'wasm' || own.isEmpty) return;
    submitChunk();
    void to.backend.flush(0, EXIT_MS);
  });
  process.on('exit', onExit);
}

/** When the process ends whatever was delivered. */
let leavesBy = 0;
/** Whether what is recorded is delivered at once, since the process ends. */
let isLeaving = false;

function onExit(): void {
  if (loadedExchange() === undefined) return;
  leavesBy = reading() + EXIT_MS;
  // Those who listen after this may still record something.
  leave((globalThis as any).process.listeners('exit').at(-1) === onExit);
}

/** Delivers at the end of the process. */
function leave(isLast: boolean): void {
  const left = (): number => Math.max(0, Math.round(leavesBy - reading()));
  try {
    const { backend } = exchange();
    submitChunk();
    isLeaving = !isLast && backend.flushAtExit(left(), 0);
    if (!isLeaving) backend.flushAtExit(left(), 1);
  } catch {
    // The process ends in any case.
  }
}
