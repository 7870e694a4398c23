/** A Worker's handlers: each call is a request of its own, in its caller's trace and session. */

import { check, kindName } from '../arguments.js';
import { SPAN_KEY, active, within } from '../context.js';
import { report } from '../core.js';
import { entered, inRequest } from '../distributed.js';
import { runBlock, SpanBlock } from '../enrich.js';
import type { Ctx } from '../handover.js';
import { fetchedAttributes, knownMethod } from '../integrations/http.js';
import { Requests, type Request, type RequestOptions } from '../integrations/request.js';
import { getTracer } from '../registry.js';
import { Tracer } from '../tracer.js';

/** The kind of a span that processes messages. */
const CONSUMER = 4;

/** What a Worker exports: its handlers. */
export interface Worker {
  fetch?(request: any, env: any, ctx: any): any;
  scheduled?(controller: any, env: any, ctx: any): any;
  queue?(batch: any, env: any, ctx: any): any;
  [other: string]: any;
}

/** What a Worker is told. */
export interface WorkerOptions extends Omit<RequestOptions, 'tracer'> {
  /** The tracer, or how it is made of the bindings. Unless given it is the one that was made at module scope, else
   * `Tracer.init({}, env)`. */
  tracer?: Tracer | ((env: any) => Tracer) | undefined;
}

/** A Worker whose handlers are traced: requests have a SERVER span, go on in their caller's trace and session, and what
 * they record is delivered after the response, by `ctx.waitUntil`; `scheduled` and `queue` have a span and a session of
 * their own.
 *
 *     export default instrumentWorker({ async fetch(request, env, ctx) { … } });
 *
 * Whatever goes wrong in tracing, the handlers run as they would without.
 *
 * @throws TypeError for an option of a wrong type or name
 */
export function instrumentWorker<W extends Worker>(worker: W, options: WorkerOptions = {}): W {
  if (worker === null || typeof worker !== 'object') throw new TypeError(`worker must be an object, not ${kindName(worker)}`);
  check('options', options, 'object');
  const { tracer, ...rest } = options ?? {};
  const requests = new Requests(rest);
  const tracerOf = (env: any): Tracer | undefined => {
    try {
      if (typeof tracer === 'function') return tracer(env);
      return tracer ?? getTracer() ?? Tracer.init({}, env);
    } catch {
      report('a tracer could not be made: nothing is traced');
      return undefined;
    }
  };
  const traced: Worker = Object.create(worker);
  if (typeof worker.fetch === 'function') {
    traced.fetch = (request: any, env: any, ctx: Ctx) => {
      const run = (): unknown => worker.fetch!(request, env, ctx);
      const by = tracerOf(env);
      if (by === undefined) return run();
      return inRequest(active(), by, ctx, () => {
        const begun = requests.begin(request.headers, knownMethod(request.method), () => fetchedAttributes(request), true, by);
        return begun === undefined ? run() : responding(begun, run);
      });
    };
  }
  for (const trigger of ['scheduled', 'queue'] as const) {
    if (typeof worker[trigger] !== 'function') continue;
    traced[trigger] = (event: any, env: any, ctx: Ctx) => {
      const run = (): unknown => worker[trigger]!(event, env, ctx);
      const by = tracerOf(env);
      if (by === undefined) return run();
      return inRequest(entered(active(), {}, by, undefined, undefined), by, ctx, (context) => {
        const name = trigger === 'queue' ? `process ${event.queue}` : `cron ${event.cron}`;
        const kind = trigger === 'queue' ? CONSUMER : 0;
        const span = by.otelTracer.startSpan(name, { kind, attributes: { 'faas.trigger': trigger === 'queue' ? 'pubsub' : 'timer' } }, context);
        return runBlock(new SpanBlock(span, context.setValue(SPAN_KEY, span)), run);
      });
    };
  }
  return traced as W;
}

/** Runs a handler, and ends its request with the response. */
function responding(request: Request, run: () => unknown): unknown {
  const done = (response: any): unknown => {
    request.end(Number(response?.status ?? 0));
    return response;
  };
  const failed = (thrown: unknown): never => {
    request.fail(thrown);
    request.end(500);
    throw thrown;
  };
  let result: any;
  try {
    result = within(request.context, run);
  } catch (thrown) {
    return failed(thrown);
  }
  return typeof result?.then === 'function' ? result.then(done, failed) : done(result);
}
