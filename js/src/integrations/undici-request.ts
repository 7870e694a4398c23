/** A request as undici has it on its channels, and our headers in there. */

import { Found, HEADERS, headerOf, type Changes } from '../carriers.js';
import { active } from '../context.js';
import { CALL_KEY, type ClientCall } from './client.js';
import { urlOfTarget } from './http.js';

/** A request as undici makes it of each hop: after a redirect, there is another one. */
export interface UndiciRequest {
  origin: string | URL;
  path: string;
  method: string;
  /** Lines in undici 5, names and values in turn since. */
  headers: string | (string | string[])[];
  upgrade?: unknown;
}

/** Where it goes. */
export function urlOfRequest({ origin, path }: UndiciRequest): URL | undefined {
  return urlOfTarget(String(origin).replace(/\/$/, ''), path);
}

/** What it has of our headers. */
export function headersOf({ headers }: UndiciRequest): Found {
  const found = new Found();
  if (typeof headers === 'string') {
    for (const line of headers.split('\r\n')) {
      const colon = line.indexOf(':');
      if (colon > 0) take(found, line.slice(0, colon), line.slice(colon + 1).trim());
    }
  } else if (Array.isArray(headers)) {
    for (let index = 0; index + 1 < headers.length; index += 2) take(found, headers[index], headers[index + 1]);
  }
  return found;
}

function take(found: Found, name: unknown, value: unknown): void {
  const header = typeof name === 'string' ? headerOf(name) : undefined;
  if (header !== undefined) found.take(header, value);
}

/** Gives the request its headers, if it is a hop of what `wrapFetch` has begun; whether it is. What an instrumentation has
 * put in of its own stays. */
export function followed(request: UndiciRequest, url: URL, found: Found): boolean {
  const call = active().getValue(CALL_KEY) as ClientCall | undefined;
  if (call === undefined) return false;
  const { spanId } = call;
  if (spanId === undefined ? found.traceparent !== undefined : found.traceparent?.includes(spanId) !== true) return false;
  setHeaders(request, call.headers(url, found));
  return true;
}

/** Changes them. */
export function setHeaders(request: UndiciRequest, changes: Changes): void {
  changes.forEach((value, index) => {
    if (value === undefined) return;
    const header = HEADERS[index];
    const { headers } = request;
    if (typeof headers === 'string') {
      const lines = headers.split('\r\n').filter((line) => headerOf(line.slice(0, Math.max(line.indexOf(':'), 0))) !== header);
      if (value !== null) lines.splice(lines.length - 1, 0, `${header}: ${value}`);
      request.headers = lines.join('\r\n');
      return;
    }
    for (let at = headers.length - (headers.length % 2) - 2; at >= 0; at -= 2) {
      const name = headers[at];
      if (typeof name === 'string' && headerOf(name) === header) headers.splice(at, 2);
    }
    if (value !== null) headers.push(header, value);
  });
}
