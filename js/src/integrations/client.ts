/**
 * Requests that go out: what every instrumented client has in common.
 *
 * Each has a CLIENT span, and is given our headers as far as the outbound policy lets them go to its host. A request that
 * somebody else's span is for already gets no second one: only what is missing of session and baggage.
 */

import { Found, headerOf, type Changes } from '../carriers.js';
import { SPAN_KEY, SUPPRESS_KEY, active } from '../context.js';
import { report } from '../core.js';
import { loadedExchange } from '../exchange.js';
import { CLIENT, type Context } from '../otel-types.js';
import { parentOf, unwrapped } from '../parent.js';
import { extract, inject } from '../propagation.js';
import { contextOf } from '../provider.js';
import { choose } from '../registry.js';
import { Span } from '../span.js';
import type { Tracer } from '../tracer.js';
import { clientAttributes, errorType, hasFailed, knownMethod, setStatus } from './http.js';

/** Whether nothing is to be traced here: somebody's exporter at work. */
export function isSuppressed(): boolean {
  return active().getValue(SUPPRESS_KEY) === true;
}

/** Where the context of a request says which call it belongs to, while `wrapFetch` waits for it. */
export const CALL_KEY = Symbol('tracebaton call');
const NO_CHANGES: Changes = [undefined, undefined, undefined];

/** A request on its way out. */
export class ClientCall {
  /** Its context: with its span current, if it has one. */
  readonly context: Context;
  private readonly tracer: Tracer | undefined;
  private readonly span: Span | undefined;
  private hasEnded = false;

  /** `found`: what the program itself has put into the request of our headers. */
  constructor(tracer: Tracer | undefined, method: unknown, url: URL, spans: boolean, found: Found) {
    const now = active();
    this.tracer = choose(tracer, now);
    if (this.tracer === undefined && loadedExchange() === undefined) {
      // Nobody has ever made a tracer, or read a carrier.
      this.context = now;
      return;
    }
    const theirs = foreignSpan(now, found);
    if (theirs !== undefined || !spans || this.tracer === undefined) {
      this.context = theirs ?? now;
      return;
    }
    const name = knownMethod(method);
    this.span = this.tracer.otelTracer.startSpan(name, { kind: CLIENT, attributes: clientAttributes(name, url) }, now);
    this.context = now.setValue(SPAN_KEY, this.span);
  }

  /** What is to become of the headers of a request to this URL. */
  headers(url: URL, found: Found): Changes {
    if (this.tracer === undefined && loadedExchange() === undefined) return NO_CHANGES;
    return inject(this.context, found, this.tracer?.core, url.href);
  }

  /** Whether it has a span of its own. */
  get hasSpan(): boolean {
    return this.span !== undefined;
  }

  /** The id of its span, or of the one that is current in its place. */
  get spanId(): string | undefined {
    return parentOf(this.context, undefined)?.spanId;
  }

  /** The response has begun. */
  status(status: number): void {
    if (this.span !== undefined && !this.hasEnded) setStatus(this.span, status, 400);
  }

  /** There is no response, or not all of one. */
  fail(thrown: unknown): void {
    const { span } = this;
    if (span === undefined || this.hasEnded) return;
    try {
      span.setAttribute('error.type', errorType(thrown));
      span.fail(thrown);
    } catch {
      report('what failed in a request could not be recorded');
    }
    this.end();
  }

  /** The response is complete. */
  end(): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    this.span?.end();
  }

  /** The connection is gone. If nobody has said why, somebody gave the request up. */
  closed(isComplete: boolean): void {
    const { span } = this;
    if (span === undefined || this.hasEnded) return;
    if (!isComplete && !hasFailed(span)) this.fail(new Aborted());
    else this.end();
  }
}

/** In place of an error where there is none. */
class Aborted extends Error {
  override readonly name = 'AbortError';

  constructor() {
    super('the request was given up before its response was complete');
    // There is nobody whose code that would show.
    delete this.stack;
  }
}

const METHOD_KEYS = ['http.request.method', 'http.method'];

/** The context of the span that somebody else has made for the request that is made here; undefined if nobody has.
 *
 * It is the current one, or its ids are in the headers: those of a span that is neither current here nor around what is.
 * Where a program passes on what it was sent, or what it injected itself, they are. */
function foreignSpan(now: Context, found: Found): Context | undefined {
  const current = unwrapped(now.getValue(SPAN_KEY));
  if (current?.kind === CLIENT && current.ended !== true && METHOD_KEYS.some((key) => isSet(current, key))) return now;
  if (found.traceparent === undefined && found.pairs === undefined) return undefined;
  const sent = extract(now.deleteValue(SPAN_KEY), traceOf(found), undefined, undefined);
  const theirs = parentOf(sent, undefined);
  if (theirs === undefined) return undefined;
  const here = parentOf(now, undefined);
  if (here === undefined) return sent;
  if (theirs.traceId !== here.traceId) return undefined;
  const isOurs = current instanceof Span;
  if (isOurs && current.ancestors.includes(theirs.spanId)) return undefined;
  for (const span of isOurs ? [current, ...current.around] : [current]) {
    if (contextOf(span)?.spanId === theirs.spanId || parentIdOf(span) === theirs.spanId) return undefined;
  }
  return sent;
}

function isSet(span: any, key: string): boolean {
  return (span instanceof Span ? span.attribute(key) : span.attributes?.[key]) !== undefined;
}

/** The parent's id, as spans of OpenTelemetry's SDK have it, which tell no more of what is around them. */
function parentIdOf(span: any): unknown {
  return span?.parentSpanContext?.spanId ?? span?.parentSpanId;
}

/** Without the baggage. */
function traceOf(found: Found): Found {
  const trace = new Found();
  trace.traceparent = found.traceparent;
  trace.tracestate = found.tracestate;
  trace.pairs = found.pairs?.filter(([name]) => headerOf(name) !== 'baggage');
  return trace;
}
