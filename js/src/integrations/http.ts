/** Attributes of HTTP spans, as OpenTelemetry's semantic conventions name them. */

import { ERROR, type ApiSpan, type Attributes } from '../otel-types.js';

const METHODS = new Set(['CONNECT', 'DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT', 'QUERY', 'TRACE']);
const PORTS: Readonly<Record<string, number>> = { 'http:': 80, 'https:': 443, 'ws:': 80, 'wss:': 443 };

/** The method, in a form of which there are few: spans are named after it. */
export function knownMethod(method: unknown): string {
  return typeof method === 'string' && METHODS.has(method) ? method : '_OTHER';
}

/** Puts in a server's address. `host` may have the port with it, as the header `Host` does. */
export function authority(found: Attributes, host: unknown, port: unknown): void {
  if (typeof host !== 'string' || host === '') return;
  const parts = /^(.*?):(\d+)$/.exec(host);
  // Without brackets, the colons of an IPv6 address are no ports.
  if (parts !== null && parts[1] !== '' && (!parts[1].includes(':') || parts[1].endsWith(']'))) [, host, port] = parts as any;
  found['server.address'] = (host as string).replace(/^\[|\]$/g, '');
  const number = Number(port);
  if (port !== undefined && port !== '' && Number.isInteger(number) && number > 0) found['server.port'] = number;
}

/** The attributes of a request that goes out. User, password, query and fragment of the URL are left out: they are where
 * secrets stand. */
export function clientAttributes(method: string, url: URL): Attributes {
  const found: Attributes = {
    'http.request.method': method,
    'url.full': `${url.protocol}//${url.host}${url.pathname}`,
  };
  authority(found, url.hostname, url.port === '' ? PORTS[url.protocol] : url.port);
  return found;
}

/** The attributes of a request that came in, given as the `Request` of `fetch`. */
export function fetchedAttributes(request: any): Attributes {
  const url = urlOf(request.url);
  const found: Attributes = {
    honeyhive_event_type: 'chain',
    'http.request.method': knownMethod(request.method),
    'url.scheme': url?.protocol.slice(0, -1),
    'url.path': url?.pathname,
    'client.address': request.headers.get('cf-connecting-ip') ?? undefined,
    'user_agent.original': request.headers.get('user-agent') ?? undefined,
  };
  authority(found, url?.hostname, url?.port);
  return found;
}

/** A URL that is one; undefined otherwise. */
export function urlOf(text: string, base?: string): URL | undefined {
  try {
    return new URL(text, base);
  } catch {
    return undefined;
  }
}

/** The URL of a request whose target is this: a path, or a URL as proxies are sent it. A path is none of the host's name,
 * whatever it begins with. */
export function urlOfTarget(origin: string, target: string): URL | undefined {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(target)) return urlOf(target);
  return urlOf(`${origin}${target.startsWith('/') ? '' : '/'}${target}`);
}

/** Puts the status of a response on a span; it is an error from `failing` on. What was thrown before says more. */
export function setStatus(span: ApiSpan, status: number, failing: number): void {
  span.setAttribute('http.response.status_code', status);
  if (status < failing || hasFailed(span)) return;
  span.setAttribute('error.type', String(status));
  span.setStatus({ code: ERROR });
}

/** Whether a span that can be read has the status of an error. */
export function hasFailed(span: ApiSpan): boolean {
  return (span as any).status?.code === ERROR;
}

/** What kind of error was thrown, in a form of which there are few. */
export function errorType(thrown: any): string {
  try {
    const { code, name } = thrown;
    if (typeof code === 'string' && code !== '') return code;
    if (typeof name === 'string' && name !== '') return name;
  } catch {
    // What it is it does not say.
  }
  return '_OTHER';
}

/** Whether an instrumentation of OpenTelemetry, or of somebody who wraps as it does, has wrapped a function. */
export function isWrapped(fn: any): boolean {
  return fn.__wrapped === true && typeof fn.__original === 'function';
}
