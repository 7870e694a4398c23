/** Outgoing requests of Node's `http` and `https`. */

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { errorMonitor } from 'node:events';
import http, { type ClientRequest, type IncomingMessage } from 'node:http';
import https from 'node:https';

import { read, write } from '../carriers.js';
import { report } from '../core.js';
import type { Tracer } from '../tracer.js';
import { ClientCall, isSuppressed } from './client.js';
import { isWrapped, urlOf, urlOfTarget } from './http.js';

type RequestFunction = (...args: any[]) => ClientRequest;

const calls = new WeakMap<ClientRequest, ClientCall>();

/** Wraps `request` and `get` of both modules; returns what undoes that. */
export function instrumentNodeClient(tracer: Tracer | undefined, spans: boolean): () => void {
  const undo = [wrapModule(http, 'http:', tracer, spans), wrapModule(https, 'https:', tracer, spans)];
  subscribe(RESPONSE_CHANNEL, onResponse);
  return () => {
    unsubscribe(RESPONSE_CHANNEL, onResponse);
    for (const one of undo) one();
  };
}

function wrapModule(module: any, protocol: string, tracer: Tracer | undefined, spans: boolean): () => void {
  const { request, get } = module;
  const wrapped = wrapRequest(request, protocol, tracer, spans);
  module.request = wrapped;
  // The module's own calls what it calls `request`, which is not to be changed.
  module.get = named('get', get, (...args: any[]) => {
    if (isWrapped(get)) return get(...args);
    const made = wrapped(...args);
    made.end();
    return made;
  });
  const ours = [module.request, module.get];
  return () => {
    // What somebody has wrapped since then stays, and calls ours, which does no harm.
    if (module.request === ours[0]) module.request = request;
    if (module.get === ours[1]) module.get = get;
  };
}

function wrapRequest(request: RequestFunction, protocol: string, tracer: Tracer | undefined, spans: boolean): RequestFunction {
  return named('request', request, (...args: any[]) => {
    if (isWrapped(request) || isSuppressed()) return request(...args);
    const early = begunEarly(args, protocol, tracer, spans);
    let made: ClientRequest;
    try {
      made = request(...(early?.args ?? args));
    } catch (thrown) {
      early?.call.fail(thrown);
      throw thrown;
    }
    const call = early?.call ?? begun(made, args, tracer, spans);
    if (call?.hasSpan === true) watch(made, call);
    return made;
  });
}

function named(name: string, like: RequestFunction, fn: RequestFunction): RequestFunction {
  Object.defineProperty(fn, 'name', { value: name, configurable: true });
  Object.defineProperty(fn, 'length', { value: like.length, configurable: true });
  return fn;
}

/** Begins the span of a request that was made, and gives it its headers. */
function begun(made: ClientRequest, args: any[], tracer: Tracer | undefined, spans: boolean): ClientCall | undefined {
  try {
    if (made.headersSent) return undefined;
    if (made.method === 'CONNECT') return undefined;
    const url = urlOfTarget(`${made.protocol}//${hostOf(made, args)}`, made.path);
    if (url === undefined) return undefined;
    const found = read(made);
    const call = new ClientCall(tracer, made.method, url, spans, found);
    write(made, call.headers(url, found));
    return call;
  } catch {
    report('a request of http could not be traced');
    return undefined;
  }
}

/** Whom a request is made to, with the port that Node takes: what the header `Host` says is only the program's word. */
function hostOf(made: ClientRequest, args: any[]): string {
  const base = typeof args[0] === 'string' || args[0] instanceof URL ? urlOf(String(args[0])) : undefined;
  const options = base === undefined ? args[0] : args[1];
  const port = options?.port || base?.port || options?.defaultPort || (made as any).agent?.defaultPort;
  return `${bracketed(made.host)}${port ? `:${port}` : ''}`;
}

function bracketed(host: string): string {
  return host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
}

/** The same for requests whose headers Node writes at once: they are begun before, with arguments that hold ours. */
function begunEarly(args: any[], protocol: string, tracer: Tracer | undefined, spans: boolean): { args: any[]; call: ClientCall } | undefined {
  try {
    const at = typeof args[0] === 'string' || args[0] instanceof URL ? 1 : 0;
    const options = args[at];
    if (options === null || typeof options !== 'object') return undefined;
    const { headers } = options;
    if (headers === null || typeof headers !== 'object') return undefined;
    if (!Array.isArray(headers) && !Object.keys(headers).some((name) => name.toLowerCase() === 'expect')) return undefined;
    const url = urlOfOptions(at === 0 ? undefined : args[0], options, protocol);
    if (url === undefined) return undefined;
    const found = read(headers);
    const call = new ClientCall(tracer, options.method ?? 'GET', url, spans, found);
    const ours = Array.isArray(headers) ? headers.slice() : { ...headers };
    write(ours, call.headers(url, found));
    const changed = args.slice();
    changed[at] = { ...options, headers: ours };
    return { args: changed, call };
  } catch {
    report('a request of http could not be traced');
    return undefined;
  }
}

function urlOfOptions(given: string | URL | undefined, options: any, protocol: string): URL | undefined {
  if (given !== undefined && options.host === undefined && options.hostname === undefined && options.path === undefined) {
    return urlOf(String(given));
  }
  const base = given === undefined ? undefined : urlOf(String(given));
  const name: string = options.hostname ?? options.host ?? base?.hostname ?? 'localhost';
  const port = options.port ?? base?.port;
  const origin = `${options.protocol ?? base?.protocol ?? protocol}//${bracketed(name)}${port ? `:${port}` : ''}`;
  return urlOfTarget(origin, options.path ?? (base === undefined ? '/' : `${base.pathname}${base.search}`));
}

/** Ends a request's span when its response was read, or when there will be none. */
function watch(made: ClientRequest, call: ClientCall): void {
  try {
    calls.set(made, call);
    // Nobody's error is handled by that.
    made.once(errorMonitor, (thrown: unknown) => call.fail(thrown));
    made.once('close', () => {
      // A response has its own end, also where it is read after its connection was closed.
      if (!calls.delete(made)) return;
      const response: IncomingMessage | null = (made as any).res;
      // What an upgrade makes of the connection is not this request any more.
      if (response !== null) call.status(response.statusCode ?? 0);
      call.closed(response !== null);
    });
  } catch {
    report('a request of http could not be watched');
    call.end();
  }
}

const RESPONSE_CHANNEL = 'http.client.response.finish';

/** The head of a response is there. A listener of its own would be one too many: Node reads and forgets the body of a
 * response that nobody listens for. */
function onResponse(message: unknown): void {
  const { request, response } = message as { request: ClientRequest; response: IncomingMessage };
  const call = calls.get(request);
  if (call === undefined) return;
  calls.delete(request);
  try {
    call.status(response.statusCode ?? 0);
    response.once('end', () => call.end());
    response.once(errorMonitor, (thrown: unknown) => call.fail(thrown));
    response.once('close', () => call.closed(response.complete));
  } catch {
    report('a response of http could not be watched');
    call.end();
  }
}
