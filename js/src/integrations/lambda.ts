/**
 * AWS Lambda: every invocation in its caller's trace and session, delivered before the function is frozen.
 *
 *     const tracer = Tracer.init();
 *     export const handler = lambdaHandler(async (event, context) => { … });
 */

import { check, millis } from '../arguments.js';
import { within } from '../context.js';
import { report } from '../core.js';
import { checkFunction } from '../enrich.js';
import type { Attributes } from '../otel-types.js';
import { authority, knownMethod } from './http.js';
import { Requests, type Request, type RequestOptions } from './request.js';

/** What the wrapper of a handler is told. */
export interface LambdaOptions extends RequestOptions {
  /** Whether an invocation whose caller sent no session has one of its own; default true. */
  sessions?: boolean | undefined;
  /** Milliseconds that delivery may take at the end of an invocation; default 2000. It never goes past the time that the
   * invocation has left. */
  flushMillis?: number | undefined;
}

/** What is left of an invocation's time when a flush gives up, in milliseconds. */
const RESERVE = 100;

/** The headers of an event of API Gateway (payload format 1.0 and 2.0), a function URL or a load balancer.
 *
 * Where both are there, `multiValueHeaders` has all values of a repeated header, and `headers` the last. An event that
 * came another way, such as from a queue, has none.
 */
export function lambdaCarrier(event: any): object {
  try {
    for (const headers of [event?.multiValueHeaders, event?.headers]) {
      if (headers !== null && typeof headers === 'object' && Object.keys(headers).length > 0) return headers;
    }
  } catch {
    // What does not let itself be asked has no headers.
  }
  return {};
}

/** Wraps the handler of a Lambda function: one that returns its result or a promise of it, or one with a callback.
 *
 * Each invocation has a SERVER span, of event type `chain`. What an invocation leaves current ends with it: a warm start
 * begins anew. What has ended is delivered before the result is there, since the process is frozen then. The handler's
 * result or error goes on unchanged.
 *
 * @throws TypeError for an argument of a wrong type
 */
export function lambdaHandler<H extends (...args: any[]) => any>(handler: H, options: LambdaOptions = {}): H {
  checkFunction('handler', handler);
  check('options', options, 'object');
  const { flushMillis, sessions, ...rest } = options ?? {};
  const limit = millis('flushMillis', flushMillis ?? 2_000);
  const requests = new Requests({ ...rest, sessions: sessions ?? true });

  const invoke = function (this: unknown, ...args: any[]): any {
    const [event, context] = args;
    const request = requests.begin(lambdaCarrier(event), nameOf(context), () => attributesOf(event, context), true);
    if (request === undefined) return handler.apply(this, args);
    const invocation = new Invocation(request, context, limit);
    if (typeof args[2] === 'function') args[2] = invocation.callback(args[2]);
    let result: any;
    try {
      result = within(request.context, () => handler.apply(this, args));
    } catch (thrown) {
      return invocation.failed(thrown);
    }
    // With a callback, what it returns means nothing.
    if (handler.length > 2 && typeof result?.then !== 'function') return result;
    return Promise.resolve(result).then(
      (value) => invocation.done(value),
      (thrown: unknown) => invocation.failed(thrown),
    );
  };
  // By which the runtime knows handlers with a callback.
  Object.defineProperty(invoke, 'length', { value: handler.length, configurable: true });
  Object.defineProperty(invoke, 'name', { value: handler.name, configurable: true });
  return invoke as unknown as H;
}

/** One invocation. */
class Invocation {
  constructor(
    private readonly request: Request,
    private readonly about: any,
    private readonly limit: number,
  ) {}

  callback(original: (thrown?: unknown, value?: unknown) => void): (thrown?: unknown, value?: unknown) => void {
    return (thrown, value) => {
      const failed = thrown !== undefined && thrown !== null;
      const ended = failed ? this.failed(thrown).catch(() => undefined) : this.done(value);
      void ended.then(() => original(thrown, value));
    };
  }

  async done<R>(result: R): Promise<R> {
    const status = (result as any)?.statusCode;
    this.request.end(typeof status === 'number' ? status : 0);
    await this.deliver();
    return result;
  }

  async failed(thrown: unknown): Promise<never> {
    this.request.fail(thrown);
    this.request.end(0);
    await this.deliver();
    throw thrown;
  }

  private async deliver(): Promise<void> {
    try {
      let { limit } = this;
      if (typeof this.about?.getRemainingTimeInMillis === 'function') {
        limit = Math.min(limit, Math.max(Number(this.about.getRemainingTimeInMillis()) - RESERVE, 0));
      }
      await this.request.tracer.flush(limit);
    } catch {
      report('what an invocation recorded could not be delivered');
    }
  }
}

function nameOf(context: any): string {
  const name = context?.functionName;
  return typeof name === 'string' && name !== '' ? name : 'invocation';
}

function attributesOf(event: any, context: any): Attributes {
  const found: Attributes = {
    honeyhive_event_type: 'chain',
    'faas.invocation_id': textOf(context?.awsRequestId),
    'cloud.resource_id': textOf(context?.invokedFunctionArn),
  };
  const method = textOf(event?.httpMethod ?? event?.requestContext?.http?.method);
  if (method === undefined) return found;
  const headers = new Map<string, unknown>();
  for (const [name, value] of Object.entries(lambdaCarrier(event))) {
    headers.set(name.toLowerCase(), Array.isArray(value) ? value[value.length - 1] : value);
  }
  found['http.request.method'] = knownMethod(method);
  found['url.path'] = textOf(event.path ?? event.rawPath);
  found['user_agent.original'] = textOf(headers.get('user-agent'));
  authority(found, headers.get('host'), headers.get('x-forwarded-port'));
  return found;
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
