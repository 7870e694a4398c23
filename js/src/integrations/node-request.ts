/** Requests of Node's HTTP servers: what they say of themselves, and until when they last. */

import type { IncomingMessage, ServerResponse } from 'node:http';

import { BLOCK_KEY, active, boundEmitter, manager } from '../context.js';
import { report } from '../core.js';
import type { Attributes, Context } from '../otel-types.js';
import { authority, knownMethod } from './http.js';
import type { Request, Requests } from './request.js';

const taken = new WeakMap<object, Request>();

/** What was made of a request of Node, by the last that took it in. */
export function requestOf(incoming: object): Request | undefined {
  return taken.get(incoming);
}

/** Takes in a request of Node. `routeOf` is asked for the route when the response is complete. */
export function beginNode(
  requests: Requests,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  routeOf: ((incoming: any) => unknown) | undefined,
  fresh = false,
): Request | undefined {
  const request = requests.begin(incoming, knownMethod(incoming.method), () => serverAttributes(incoming), fresh);
  if (request === undefined) return undefined;
  taken.set(incoming, request);
  try {
    // What reads the body or writes the response is called by the socket, which knows of no request.
    const contextOf = (): Context => contextFor(request);
    boundEmitter(manager(), contextOf, incoming);
    boundEmitter(manager(), contextOf, outgoing);
    const end = (): void => {
      if (routeOf !== undefined) request.route(guarded(routeOf, incoming));
      request.end(outgoing.headersSent ? outgoing.statusCode : 0, outgoing.writableFinished);
    };
    outgoing.once('finish', end);
    outgoing.once('close', end);
  } catch {
    report('a response cannot be watched');
  }
  return request;
}

/** What a listener runs in: what is current where it is added, such as a session that the application has begun; the
 * request, where nothing is. */
function contextFor(request: Request): Context {
  const now = active();
  return now.getValue(BLOCK_KEY) === undefined ? request.context : now;
}

function guarded(routeOf: (incoming: any) => unknown, incoming: IncomingMessage): unknown {
  try {
    return routeOf(incoming);
  } catch {
    return undefined;
  }
}

/** The attributes of a request that came in. */
function serverAttributes(incoming: IncomingMessage): Attributes {
  const { headers, socket } = incoming;
  // Express cuts off what a router is mounted at.
  const target: unknown = (incoming as any).originalUrl ?? incoming.url;
  const path = typeof target === 'string' ? target.split(/[?#]/, 1)[0] : undefined;
  const found: Attributes = {
    honeyhive_event_type: 'chain',
    'http.request.method': knownMethod(incoming.method),
    'url.scheme': (socket as any)?.encrypted === true ? 'https' : 'http',
    'url.path': path,
    'client.address': socket?.remoteAddress,
    'user_agent.original': headers?.['user-agent'],
    'network.protocol.version': incoming.httpVersion,
  };
  authority(found, headers?.host, socket?.localPort);
  return found;
}

/** The route of Express, which it leaves on the request: what routers are mounted at, and the pattern within.
 *
 * Express keeps the mount path as it came; a parameter in it is known again by its value where the router merges its
 * parent's, which come first, in the order of their path. */
export function expressRoute(incoming: any): unknown {
  const path: unknown = incoming.route?.path;
  if (typeof path !== 'string') return undefined;
  let base: string = typeof incoming.baseUrl === 'string' ? incoming.baseUrl : '';
  if (base !== '') {
    const inherited = Object.entries(incoming.params ?? {}).filter(([name]) => !isParameter(path, name));
    const parts = base.split('/');
    // From the end: where a fixed part reads like a value, it mostly stands before the parameter.
    for (let at = parts.length - 1; at > 0; at--) {
      const found = parts[at] === '' ? -1 : inherited.findLastIndex(([, value]) => value === parts[at]);
      if (found >= 0) parts[at] = `:${inherited.splice(found, 1)[0]![0]}`;
    }
    base = parts.join('/');
  }
  return path === '/' && base !== '' ? base : `${base}${path}`;
}

/** Whether a route's own path has a parameter of this name. */
function isParameter(path: string, name: string): boolean {
  return [...path.matchAll(/[:*]"?([\p{ID_Continue}$]+)/gu)].some(([, own]) => own === name);
}
