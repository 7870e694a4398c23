/**
 * Middleware for Express 4 and 5, and whatever else takes `(request, response, next)`.
 *
 *     app.use(expressMiddleware({ tracer }));
 *     …
 *     app.use(expressErrors());          // behind the routes: records what they threw
 *
 * Every request goes on in its caller's trace and session, with a SERVER span named after its route.
 */

import type { IncomingMessage, ServerResponse } from 'node:http';

import { within } from '../context.js';
import { beginNode, expressRoute, requestOf } from './node-request.js';
import { Requests, type RequestOptions } from './request.js';

export type { RequestOptions } from './request.js';

type Next = (error?: any) => void;

/** Middleware to be used before whatever is to be traced.
 *
 * @throws TypeError for an option of a wrong type or name
 */
export function expressMiddleware(options?: RequestOptions): (request: IncomingMessage, response: ServerResponse, next: Next) => void {
  const requests = new Requests(options);
  return function tracebaton(incoming, outgoing, next) {
    const request = beginNode(requests, incoming, outgoing, expressRoute);
    if (request === undefined) return next();
    within(request.context, next);
  };
}

/** Error middleware that records on a request's span what its handlers threw, and passes it on. */
export function expressErrors(): (thrown: any, request: IncomingMessage, response: ServerResponse, next: Next) => void {
  return function tracebatonErrors(thrown, incoming, _outgoing, next) {
    requestOf(incoming)?.fail(thrown);
    next(thrown);
  };
}
