/** HoneyHive's fields on spans, and blocks of code with a span that has them. */

import { check, kindName, snake } from './arguments.js';
import { SCOPE_KEY, SPAN_KEY, active, withinCall } from './context.js';
import { report } from './core.js';
import type { Context } from './otel-types.js';
import { scopeOf, withSession } from './scope.js';
import { NO_SPAN } from './span-context.js';
import { BUCKET_INDEX, type Span } from './span.js';
import type { Tracer } from './tracer.js';

/** HoneyHive's fields of a span. */
export interface SpanFields {
  inputs?: unknown;
  outputs?: unknown;
  metadata?: unknown;
  metrics?: unknown;
  feedback?: unknown;
  config?: unknown;
  userProperties?: unknown;
  /** What went wrong. */
  error?: string;
  /** Attributes under their own keys. */
  attributes?: Record<string, unknown>;
  /** `model`, `tool`, `chain` or `session`. */
  eventType?: string;
  eventName?: string;
  eventId?: string;
}

/** Fields in core's spelling. */
export type Fields = Record<string, unknown>;

const ATTRIBUTES: ReadonlyMap<string, string> = new Map([
  ['event_type', 'honeyhive_event_type'],
  ['event_name', 'honeyhive_event_name'],
  ['error', 'honeyhive_error'],
  ['event_id', 'honeyhive_event_id'],
  ['user_id', 'honeyhive_user_id'],
  ['session_name', 'honeyhive_session_name'],
  ['source', 'honeyhive_source'],
  ['project', 'honeyhive_project'],
]);

/** The fields of an object in core's spelling, those of other names apart. A text that is none is an error.
 *
 * @throws TypeError
 */
export function fieldsOf(options: object, texts: readonly string[]): { fields: Fields; others: Fields } {
  const fields: Fields = {};
  const others: Fields = {};
  for (const [name, value] of Object.entries(options)) {
    const key = snake(name);
    if (value === undefined || value === null) continue;
    if (texts.includes(key)) check(name, value, 'string');
    else if (key === 'attributes') check(name, value, 'object');
    else if (!BUCKET_INDEX.has(key)) {
      others[name] = value;
      continue;
    }
    fields[key] = value;
  }
  return { fields, others };
}

/** The texts among the fields of a span. */
export const SPAN_TEXTS = ['error', 'event_type', 'event_name', 'event_id'];

/** Puts fields on a span; whether any was put. Nothing that a value does is thrown. */
export function enrich(span: Span, fields: Fields): boolean {
  let some = false;
  try {
    for (const key in fields) {
      const value = fields[key];
      if (value === undefined || value === null) continue;
      const bucket = BUCKET_INDEX.get(key);
      if (bucket !== undefined) {
        some = span.enrich(bucket, value) || some;
      } else if (key === 'attributes') {
        for (const [name, one] of Object.entries(value as object)) some = span.put(name, one) || some;
      } else {
        const name = ATTRIBUTES.get(key);
        if (name !== undefined) some = span.put(name, value) || some;
      }
    }
  } catch {
    report('a field of a span could not be captured');
  }
  return some;
}

/** Parts of metadata as one, later ones over earlier ones; if one is no object, the last that is something. */
export function merged(...parts: unknown[]): unknown {
  const given = parts.filter((part) => part !== undefined && part !== null);
  if (given.length < 2) return given[0];
  if (given.every((part) => typeof part === 'object' && !Array.isArray(part)))
    return Object.assign({}, ...(given as object[]));
  return given[given.length - 1];
}

/** A span, and the context in which it is the current one. */
export class SpanBlock {
  readonly span: Span;
  readonly context: Context;

  constructor(span: Span, context: Context) {
    this.span = span;
    this.context = context;
  }

  /** The block is left with a thrown value. */
  fail(thrown: unknown): void {
    try {
      this.span.fail(thrown);
    } catch {
      report('an exception could not be recorded');
    }
    this.end();
  }

  /** The block is left. */
  end(): void {
    try {
      this.span.end();
    } catch {
      report('a span could not be ended');
    }
  }
}

const NO_OPTIONS = {};

/** A context with another session for a tracer. */
export function inSession(context: Context, tracer: Tracer, sessionId: string): Context {
  return context.setValue(SCOPE_KEY, withSession(scopeOf(context), tracer.core.handle, sessionId, undefined, false));
}

/** A block with a span that has fields, or none where tracing could not make one. */
export function blockOf(
  tracer: Tracer,
  name: string,
  fields: Fields,
  sessionId: string | undefined,
): SpanBlock | undefined {
  try {
    let base = active();
    if (sessionId !== undefined) base = inSession(base, tracer, sessionId);
    const span = tracer.otelTracer.begun(name, NO_OPTIONS, base);
    if (span.isRecording()) {
      span.put('honeyhive_event_name', name);
      enrich(span, fields);
      // Once, when the inputs are there.
      if (tracer.core.recordsStarts) span.recordStart();
    }
    return new SpanBlock(span, base.setValue(SPAN_KEY, span));
  } catch {
    report('a span could not be started');
    return undefined;
  }
}

/** Is told the result of a block. True: the block goes on, and somebody else ends it. */
export type Seen = (result: unknown) => boolean;

/** Runs a function as the block; the span ends with what it returns, also where that is to come yet. */
export function runBlock<R>(block: SpanBlock, fn: (span: Span) => R, seen?: Seen): R {
  let result: R;
  try {
    result = withinCall(block.context, fn, block.span);
  } catch (thrown) {
    block.fail(thrown);
    throw thrown;
  }
  return settled(block, result, seen);
}

/** Ends a block's span when a result is there. */
function settled<R>(block: SpanBlock, result: R, seen: Seen | undefined): R {
  const done = (value: unknown): void => {
    if (seen === undefined || !seen(value)) block.end();
  };
  const failed = (thrown: unknown): void => block.fail(thrown);
  if (!isThenable(result)) {
    done(result);
    return result;
  }
  // Another promise takes its place, so that a rejection which nobody handles is still reported: one that was only
  // looked at from aside would count as handled.
  if (result instanceof Promise && result.constructor === Promise) {
    return result.then(
      (value) => {
        done(value);
        return value;
      },
      (thrown) => {
        failed(thrown);
        throw thrown;
      },
    ) as R;
  }
  // A class of its own may have methods of its own, and a `then` that begins the work: it stays what it is, and only its
  // user calls that.
  if (!watched(result, done, failed)) block.end();
  return result;
}

function isThenable(value: any): boolean {
  try {
    return (
      value !== null && (typeof value === 'object' || typeof value === 'function') && typeof value.then === 'function'
    );
  } catch {
    return false;
  }
}

/** Has the first call of `then` tell what came; whether that can be done. */
function watched(thenable: any, done: (value: unknown) => void, failed: (thrown: unknown) => void): boolean {
  const then = thenable.then;
  let first = true;
  const once = (tell: (value: unknown) => void, value: unknown): void => {
    if (first) tell(value);
    first = false;
  };
  try {
    Object.defineProperty(thenable, 'then', {
      configurable: true,
      enumerable: false,
      writable: true,
      value(this: unknown, onValue: any, onThrown: any): unknown {
        return then.call(
          this,
          (value: unknown) => {
            once(done, value);
            return typeof onValue === 'function' ? onValue(value) : value;
          },
          (thrown: unknown) => {
            once(failed, thrown);
            if (typeof onThrown === 'function') return onThrown(thrown);
            throw thrown;
          },
        );
      },
    });
    return true;
  } catch {
    return false;
  }
}

/** Runs a function without a span. */
export function untraced<R>(fn: (span: Span) => R): R {
  return fn(NO_SPAN as unknown as Span);
}

/** @throws TypeError if an argument that must be one is no function. */
export function checkFunction(name: string, fn: unknown): asserts fn is (...args: any[]) => any {
  if (typeof fn !== 'function') throw new TypeError(`${name} must be a function, not ${kindName(fn)}`);
}
