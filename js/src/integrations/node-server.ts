/** Incoming requests of Node's `http` and `https` servers, whatever framework is behind them. */

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import http from 'node:http';
import https from 'node:https';

import { within } from '../context.js';
import { isWrapped } from './http.js';
import { beginNode, expressRoute, requestOf } from './node-request.js';
import { Requests } from './request.js';
import type { Tracer } from '../tracer.js';

/** Has every server handle its requests in their callers' traces and sessions, with a SERVER span each; returns what
 * undoes that. */
export function instrumentNodeServer(tracer: Tracer | undefined, spans: boolean): () => void {
  const requests = new Requests({ tracer, spans });
  const undo = [wrapEmit(http.Server.prototype, requests), wrapEmit(https.Server.prototype, requests)];
  subscribe(FASTIFY_CHANNEL, onFastifyHandler);
  return () => {
    unsubscribe(FASTIFY_CHANNEL, onFastifyHandler);
    for (const one of undo) one();
  };
}

function wrapEmit(prototype: any, requests: Requests): () => void {
  const own = Object.getOwnPropertyDescriptor(prototype, 'emit');
  const { emit } = prototype;
  const wrapped = function (this: unknown, event: unknown, ...args: any[]): boolean {
    // What an instrumentation has wrapped before makes the span, and its propagator takes in the session.
    if (event !== 'request' || args.length < 2 || isWrapped(emit)) return emit.call(this, event, ...args);
    const [incoming, outgoing] = args;
    const request = beginNode(requests, incoming, outgoing, expressRoute, true);
    if (request === undefined) return emit.call(this, event, ...args);
    return within(request.context, () => emit.call(this, event, ...args));
  };
  Object.defineProperty(prototype, 'emit', { value: wrapped, configurable: true, writable: true });
  return () => {
    if (prototype.emit !== wrapped) return;
    if (own === undefined) delete prototype.emit;
    else Object.defineProperty(prototype, 'emit', own);
  };
}

const FASTIFY_CHANNEL = 'tracing:fastify.request.handler:start';

/** Fastify 5 says which route a request has. */
function onFastifyHandler(message: any): void {
  const raw = message?.request?.raw;
  if (raw !== null && typeof raw === 'object') requestOf(raw)?.route(message.route?.url);
}
