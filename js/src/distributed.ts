/** Carriers in and out for programs: `injectContextIntoCarrier`, `withDistributedTraceContext` and their like. */

import { check, kindName } from './arguments.js';
import { read, write } from './carriers.js';
import { BLOCK_KEY, REQUEST_KEY, SPAN_KEY, active, withinCall } from './context.js';
import { report } from './core.js';
import { checkFunction, inSession } from './enrich.js';
import { exchange } from './exchange.js';
import { RequestMailing, type Ctx } from './handover.js';
import type { Context } from './otel-types.js';
import { asPolicy, type Policy, type PolicyOptions } from './policy.js';
import { extract, inject, pairsRequest } from './propagation.js';
import { OP_EXPLAIN } from './protocol.js';
import { choose, coreOf } from './registry.js';
import { PER_REQUEST } from './runtime.js';
import { withOwnSession } from './scope.js';
import { checkSessionId } from './session-id.js';
import { TreeReader } from './tree.js';
import type { Tracer } from './tracer.js';

/** Where a carrier goes. */
export interface InjectOptions {
  /** The request's URL, or its host: the outbound policy then decides what may go there. Without it there is no
   * destination, and all is written. */
  url?: string | URL | undefined;
}

/** Writes the current trace, session and baggage into a carrier's headers, and returns the carrier.
 *
 * The carrier is an object, `Headers`, a `Map`, a list of pairs, an outgoing message, gRPC's `Metadata`. What it holds of
 * our headers, in any letter case, is replaced; a `baggage` that is there is merged. A carrier that cannot be written stays
 * as it is.
 *
 * @throws TypeError for a tracer or URL that is none; never for a carrier
 */
export function injectContextIntoCarrier<C>(carrier: C, tracer?: Tracer | null, options: InjectOptions = {}): C {
  check('options', options, 'object');
  const context = active();
  const core = coreOf(tracer, context);
  let { url } = options ?? {};
  if (url instanceof URL) url = url.href;
  check('url', url, 'string');
  try {
    if (!write(carrier, inject(context, read(carrier), core, url ?? undefined))) {
      report('inject: a carrier cannot be written; it stays as it is');
    }
  } catch {
    report('a carrier could not be written');
  }
  return carrier;
}

/** The current context with what a carrier holds: the caller's span, session and baggage.
 *
 * The carrier is whatever a framework has for headers. What is not valid in it is left out, by the rules of the W3C
 * recommendations, and counted in `stats()`; nothing is thrown for it.
 *
 * @throws TypeError for a tracer that is none
 */
export function extractContextFromCarrier(carrier: unknown, tracer?: Tracer | null): Context {
  const base = active();
  return extracted(base, carrier, choose(tracer, base), undefined);
}

/** How a caller's context is taken. */
export interface DistributedOptions {
  /** A session in place of the caller's: 1 to 256 characters. */
  sessionId?: string | undefined;
  /** A policy in place of the tracer's. */
  policy?: Policy | PolicyOptions | undefined;
  /** The context of a Worker's request. */
  ctx?: Ctx | undefined;
}

/** Runs `fn` in the trace and session that a caller sent, and returns what it returns. `fn` gets the context.
 *
 * `carrier` is whatever a framework has for headers: `request.headers`, `Headers`, `rawHeaders`, gRPC's `Metadata`.
 *
 * @throws TypeError, RangeError for arguments that are wrong; never for what a carrier holds
 */
export function withDistributedTraceContext<R>(
  carrier: unknown,
  tracer: Tracer | null | undefined,
  fn: (context: Context) => R,
  options?: DistributedOptions,
): R;
export function withDistributedTraceContext<R>(
  carrier: unknown,
  fn: (context: Context) => R,
  options?: DistributedOptions,
): R;
export function withDistributedTraceContext<R>(carrier: unknown, second: any, third?: any, fourth?: any): R {
  const [tracer, fn, options] = typeof second === 'function' ? [undefined, second, third] : [second, third, fourth];
  checkFunction('fn', fn);
  check('options', options, 'object');
  const { sessionId, policy, ctx } = (
    typeof options?.waitUntil === 'function' ? { ctx: options } : (options ?? {})
  ) as DistributedOptions;
  const base = active();
  const chosen = choose(tracer, base);
  if (sessionId !== undefined && sessionId !== null && sessionId !== '') checkSessionId('sessionId', sessionId);
  const context = entered(base, carrier, chosen, sessionId, asPolicy(policy)?.check());
  return inRequest(context, chosen, ctx ?? undefined, fn as (context: Context) => R);
}

/** Runs `fn` in a context. With a Worker's `ctx`, what is recorded there is delivered when that is over, while the runtime
 * waits for it; where everything is done in requests, it has an outbox of its own. */
export function inRequest<R>(
  context: Context,
  tracer: Tracer | undefined,
  ctx: Ctx | undefined,
  fn: (context: Context) => R,
): R {
  if (ctx === undefined || tracer === undefined || context.getValue(REQUEST_KEY) !== undefined)
    return withinCall(context, fn, context);
  let finish = (): void => ctx.waitUntil(tracer.flush());
  if (PER_REQUEST) {
    const mailing = new RequestMailing(ctx);
    context = context.setValue(REQUEST_KEY, mailing);
    finish = () => mailing.finish();
  }
  let result: R;
  try {
    result = withinCall(context, fn, context);
  } catch (thrown) {
    finish();
    throw thrown;
  }
  if (result instanceof Promise) result.then(finish, finish);
  else finish();
  return result;
}

/** The context of a block that goes on with what a caller sent. */
export function entered(
  base: Context,
  carrier: unknown,
  tracer: Tracer | undefined,
  sessionId: string | undefined,
  policy: Policy | undefined,
): Context {
  let context = extracted(base, carrier, tracer, policy);
  if (tracer === undefined) return context;
  context = sessionId ? inSession(context, tracer, sessionId) : withOwnSession(context, tracer.core);
  return context.setValue(BLOCK_KEY, { tracer, span: context.getValue(SPAN_KEY) });
}

function extracted(base: Context, carrier: unknown, tracer: Tracer | undefined, policy: Policy | undefined): Context {
  try {
    return extract(base, read(carrier), tracer?.core, policy);
  } catch {
    report('a carrier could not be read');
    return base;
  }
}

/** One thing to know about a carrier. */
export interface Finding {
  /** `traceparent`, `tracestate` or `baggage`. */
  header: string;
  /** Which member of the baggage it is about, counted from 0. */
  position: number | null;
  /** `kept`, `dropped` or `missing`. */
  verdict: string;
  /** The id of the rule by which it was left out, or read in the way that the sentence says. */
  rule: string | null;
  /** What became of it, and why. */
  sentence: string;
  /** What stood there, if that was asked for: users' data, which does not belong in logs. */
  text: string | null;
}

/** Says what extraction takes from a carrier under a policy (the default one unless one is given), what it leaves out, and
 * by which rule, in the order of the headers. Nothing of what stands there is in it without `withText`. */
export function explain(
  carrier: unknown,
  options: { policy?: Policy | PolicyOptions; withText?: boolean } = {},
): Finding[] {
  if (options === null || typeof options !== 'object')
    throw new TypeError(`options must be an object, not ${kindName(options)}`);
  check('withText', options.withText, 'boolean');
  const policy = asPolicy(options.policy)?.check();
  const found = read(carrier);
  const to = exchange();
  const request = to.begin(3);
  if (policy !== undefined) request.octets(policy.tree);
  const count = pairsRequest(request, found);
  request.view.setUint32(0, options.withText === true ? 1 : 0, true);
  request.view.setUint32(4, policy === undefined ? 0 : policy.tree.length, true);
  request.view.setUint32(8, count, true);
  to.call(OP_EXPLAIN, 0);
  return new TreeReader(to.memory.bytes).value();
}
