/**
 * Middleware for Hono, on Node and wherever else it runs.
 *
 *     app.use(honoMiddleware({ tracer }));
 *
 * Every request goes on in its caller's trace and session, with a SERVER span named after its route. On Node the span
 * lasts until the response is sent; elsewhere a response that is known to be a stream is waited for.
 */

import { within } from '../context.js';
import { report } from '../core.js';
import type { Attributes } from '../otel-types.js';
import { fetchedAttributes, knownMethod } from './http.js';
import { Requests, type Request, type RequestOptions } from './request.js';

export type { RequestOptions } from './request.js';

/** What the middleware needs of Hono's context. */
interface HonoContext {
  req: any;
  res: any;
  env: any;
  error?: unknown;
}

/** Middleware to be used before whatever is to be traced.
 *
 * @throws TypeError for an option of a wrong type or name
 */
export function honoMiddleware(options?: RequestOptions): (c: any, next: () => Promise<void>) => Promise<void> {
  const requests = new Requests(options);
  return async function tracebaton(c: HonoContext, next): Promise<void> {
    const raw = c.req.raw;
    const request = requests.begin(raw.headers, knownMethod(raw.method), () => attributesOf(c));
    if (request === undefined) return next();
    try {
      await within(request.context, next);
    } catch (thrown) {
      request.fail(thrown);
      request.end(500);
      throw thrown;
    }
    finish(c, request);
  };
}

function finish(c: HonoContext, request: Request): void {
  try {
    if (c.error !== undefined) request.fail(c.error);
    request.route(routeOf(c));
    const { status } = c.res;
    const outgoing = c.env?.outgoing;
    if (typeof outgoing?.once === 'function' && !outgoing.closed) {
      const end = (): void => request.end(status, outgoing.writableFinished);
      outgoing.once('finish', end);
      outgoing.once('close', end);
    } else if (isStream(c.res)) {
      c.res = watched(c.res, (isComplete) => request.end(status, isComplete));
    } else {
      request.end(status);
    }
  } catch {
    report('the end of a request could not be recorded');
    request.end(0);
  }
}

/** The pattern of the handler that ran; none where only middleware did. */
function routeOf(c: HonoContext): unknown {
  const routes: { path: string; method: string }[] | undefined = c.req.matchedRoutes;
  const route = routes?.[c.req.routeIndex];
  return route === undefined || (route.method === 'ALL' && route.path.endsWith('*')) ? undefined : route.path;
}

/** Whether a response says that it is made while it is sent. */
function isStream(response: Response): boolean {
  const { headers } = response;
  return headers.has('transfer-encoding') || /^(text\/event-stream|application\/(x-ndjson|stream\+json|jsonl))/i.test(headers.get('content-type') ?? '');
}

/** The response, and word of when its body was read to its end, or will not be. */
function watched(response: Response, done: (isComplete: boolean) => void): Response {
  if (response.body === null) {
    done(true);
    return response;
  }
  const reader = response.body.getReader();
  const body = new ReadableStream({
    async pull(controller) {
      try {
        const { done: isLast, value } = await reader.read();
        if (!isLast) return controller.enqueue(value);
        controller.close();
        done(true);
      } catch (thrown) {
        controller.error(thrown);
        done(false);
      }
    },
    cancel(reason) {
      done(false);
      return reader.cancel(reason);
    },
  }, { highWaterMark: 0 });
  return new Response(body, response);
}

function attributesOf(c: HonoContext): Attributes {
  const found = fetchedAttributes(c.req.raw);
  // There where Hono runs on a server of Node's.
  const { socket, httpVersion } = c.env?.incoming ?? {};
  found['client.address'] = socket?.remoteAddress ?? found['client.address'];
  found['network.protocol.version'] = httpVersion;
  return found;
}
