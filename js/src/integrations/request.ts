/**
 * Requests that come in: what every middleware has in common.
 *
 * A request goes on in its caller's trace and session, with a SERVER span. Where an instrumentor of OpenTelemetry (or this
 * package's own, `tracebaton/register`) has made that span already, it stays the only one, and session and baggage are
 * added. Nothing of ours fails a request: in the worst case it runs as it would without.
 */

import { check, kindName } from '../arguments.js';
import { read } from '../carriers.js';
import { BLOCK_KEY, REQUEST_KEY, ROOT, SCOPE_KEY, SPAN_KEY, SUPPRESS_KEY, active } from '../context.js';
import { report } from '../core.js';
import { ERROR, SERVER, type ApiSpan, type Attributes, type Context } from '../otel-types.js';
import { unwrapped } from '../parent.js';
import { asPolicy, type Policy, type PolicyOptions } from '../policy.js';
import { extract } from '../propagation.js';
import { choose } from '../registry.js';
import { scopeOf, withSession } from '../scope.js';
import { Span } from '../span.js';
import type { Tracer } from '../tracer.js';
import { errorType, hasFailed, setStatus } from './http.js';

/** What a middleware is told. */
export interface RequestOptions {
  /** The tracer; the one that is meant where the request comes in, unless one is given. */
  tracer?: Tracer | undefined;
  /** A policy in place of the tracer's. */
  policy?: Policy | PolicyOptions | undefined;
  /** Whether each request has a SERVER span, of event type `chain`; default true. */
  spans?: boolean | undefined;
  /** Whether a request whose caller sent no session has one of its own; default false. */
  sessions?: boolean | undefined;
}

const NAMES = ['tracer', 'policy', 'spans', 'sessions'];
/** Where OpenTelemetry's HTTP instrumentation says which span a request has; its framework instrumentations put the route
 * there. */
const RPC_KEY = Symbol.for('OpenTelemetry SDK Context Key RPC_METADATA');

interface RpcMetadata {
  type?: unknown;
  span?: ApiSpan;
  route?: unknown;
}

/** How requests are taken in. */
export class Requests {
  private readonly tracer: Tracer | undefined;
  private readonly policy: Policy | undefined;
  private readonly spans: boolean;
  private readonly sessions: boolean;

  /** @throws TypeError for an option of a wrong type or of another name */
  constructor(options: RequestOptions = {}, others: readonly string[] = []) {
    if (options === null || typeof options !== 'object' || Array.isArray(options)) {
      throw new TypeError(`options must be an object, not ${kindName(options)}`);
    }
    for (const name of Object.keys(options)) {
      if (!NAMES.includes(name) && !others.includes(name)) throw new TypeError(`there is no option ${name}`);
    }
    const { tracer, policy, spans, sessions } = options;
    if (tracer !== undefined && tracer !== null) choose(tracer);
    check('spans', spans, 'boolean');
    check('sessions', sessions, 'boolean');
    this.tracer = tracer ?? undefined;
    this.policy = asPolicy(policy);
    this.spans = spans ?? true;
    this.sessions = sessions ?? false;
  }

  /** Takes a request in; undefined where there is no tracer, where tracing is suppressed, or where something of ours goes
   * wrong. `fresh`: what is current here is left over from something else, unless an instrumentor has made the request's span. */
  begin(
    carrier: unknown,
    name: string,
    attributes: () => Attributes,
    fresh = false,
    by: Tracer | undefined = this.tracer,
  ): Request | undefined {
    try {
      const now = active();
      if (now.getValue(SUPPRESS_KEY) === true) return undefined;
      const tracer = choose(by, now);
      if (tracer === undefined) return undefined;
      const theirs = serverSpan(now);
      let base = now;
      if (theirs === undefined) {
        const request = now.getValue(REQUEST_KEY);
        if (fresh) base = request === undefined ? ROOT : ROOT.setValue(REQUEST_KEY, request);
        // A server that was started inside a span runs its requests with that one current, long after it has ended.
        else if (hasEnded(now.getValue(SPAN_KEY))) base = now.deleteValue(SPAN_KEY);
      }
      let context = extract(base, read(carrier), tracer.core, this.policy);
      if ((this.sessions || tracer.core.sessionless) && scopeOf(context)?.view(tracer.core.handle).session === undefined) {
        const session = globalThis.crypto.randomUUID();
        context = context.setValue(SCOPE_KEY, withSession(scopeOf(context), tracer.core.handle, session, undefined, false));
      }
      // If it is not in the caller's trace, it is not this request's.
      const isTheirs = theirs !== undefined && context.getValue(SPAN_KEY) === now.getValue(SPAN_KEY);
      if (isTheirs || !this.spans) return new Request(tracer, context, name, isTheirs ? theirs : undefined, false);
      const options = { kind: SERVER, attributes: guarded(attributes) };
      const span = tracer.otelTracer.startSpan(name, options, context);
      return new Request(tracer, context.setValue(SPAN_KEY, span), name, span, true);
    } catch {
      report('a request could not be traced');
      return undefined;
    }
  }
}

/** A request that was taken in. */
export class Request {
  readonly tracer: Tracer;
  /** What its handler is to run in. */
  readonly context: Context;
  /** Its SERVER span, ours or an instrumentor's; undefined if it has none. */
  readonly span: ApiSpan | undefined;
  private readonly isOurs: boolean;
  private readonly name: string;
  private readonly metadata: RpcMetadata;
  private hasEnded = false;

  /** @internal */
  constructor(tracer: Tracer, context: Context, name: string, span: ApiSpan | undefined, isOurs: boolean) {
    this.tracer = tracer;
    this.name = name;
    this.span = span;
    this.isOurs = isOurs;
    let inner = context.setValue(BLOCK_KEY, { tracer, span: context.getValue(SPAN_KEY) });
    const metadata = context.getValue(RPC_KEY) as RpcMetadata | undefined;
    if (!isOurs && metadata !== undefined && metadata.span === span) {
      this.metadata = metadata;
    } else {
      this.metadata = span === undefined ? {} : { type: 'http', span };
      if (isOurs) inner = inner.setValue(RPC_KEY, this.metadata);
    }
    this.context = inner;
  }

  /** The pattern that the framework's router matched. Without one, what an instrumentation of the framework says. */
  route(route?: unknown): void {
    const { span, metadata } = this;
    const path = typeof route === 'string' && route !== '' ? route : metadata.route;
    if (span === undefined || this.hasEnded || typeof path !== 'string' || path === '') return;
    metadata.route = path;
    span.setAttribute('http.route', path);
    // An instrumentor of OpenTelemetry names its span itself.
    if (span instanceof Span) span.updateName(`${this.name} ${path}`);
  }

  /** Something was thrown that becomes a response of the application's, or of the framework's. */
  fail(thrown: unknown): void {
    const { span } = this;
    if (!(span instanceof Span) || this.hasEnded || isCallersFault(thrown)) return;
    try {
      span.setAttribute('error.type', errorType(thrown));
      span.fail(thrown);
    } catch {
      report('what failed in a request could not be recorded');
    }
  }

  /** The response is complete, or what there will be of it. `status` is 0 where there is none. `isComplete`: whether the
   * caller got all of it. */
  end(status: number, isComplete = true): void {
    if (!this.isOurs || this.hasEnded) return;
    const span = this.span!;
    try {
      this.route();
      if (status > 0) setStatus(span, status, 500);
      if (!isComplete && !hasFailed(span)) {
        span.setAttribute('error.type', 'aborted');
        span.setStatus({ code: ERROR, message: 'the connection was closed before the response was complete' });
      }
    } catch {
      report('the end of a request could not be recorded');
    }
    this.hasEnded = true;
    span.end();
  }
}

/** The span of the request that is handled here, if somebody has made one. */
function serverSpan(context: Context): ApiSpan | undefined {
  const current = unwrapped(context.getValue(SPAN_KEY));
  if (current?.kind === SERVER && !hasEnded(current)) return current;
  const metadata = context.getValue(RPC_KEY) as RpcMetadata | undefined;
  const span = metadata?.type === 'http' ? metadata.span : undefined;
  return hasEnded(span) ? undefined : span;
}

/** Whether a span says that it has ended. One that is not sampled only has a context, and never says so. */
function hasEnded(span: any): boolean {
  return span?.ended === true;
}

/** Whether an error of a framework means a response that says what was wrong with the request. */
function isCallersFault(thrown: any): boolean {
  try {
    const status = thrown?.statusCode ?? thrown?.status;
    return typeof status === 'number' && status >= 300 && status < 500;
  } catch {
    return false;
  }
}

function guarded(attributes: () => Attributes): Attributes {
  try {
    return attributes();
  } catch {
    report('what a request says of itself could not be recorded');
    return {};
  }
}
