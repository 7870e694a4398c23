/**
 * `fetch` that carries trace and session along.
 *
 *     const fetch = wrapFetch(globalThis.fetch, { tracer });
 *
 * The outbound policy of the tracer decides what a host is sent: by default every host gets the trace context, and only
 * local, private and listed hosts (`propagateTo`) get session and baggage. Each request has a CLIENT span.
 */

import { check, kindName } from '../arguments.js';
import { read, write } from '../carriers.js';
import { within } from '../context.js';
import { report } from '../core.js';
import { choose } from '../registry.js';
import type { Tracer } from '../tracer.js';
import { CALL_KEY, ClientCall, isSuppressed } from './client.js';
import { urlOf } from './http.js';
import { followed, headersOf, urlOfRequest } from './undici-request.js';

/** What a wrapped `fetch` is told. */
export interface FetchOptions {
  /** The tracer; the one that is meant where a request is made, unless one is given. */
  tracer?: Tracer | undefined;
  /** Whether each request has a CLIENT span; default true. */
  spans?: boolean | undefined;
}

type Fetch = (input: any, init?: any) => Promise<any>;

/** A `fetch` around another one (the global one unless one is given), of the same type. Its span ends when the response
 * begins; the redirects that `fetch` follows belong to it, and on Node each host on the way is sent what may go there. What `fetch` throws goes on unchanged.
 *
 * @throws TypeError for an argument of a wrong type
 */
export function wrapFetch<F extends Fetch = typeof globalThis.fetch>(fetch?: F, options: FetchOptions = {}): F {
  if (fetch !== undefined && typeof fetch !== 'function') throw new TypeError(`fetch must be a function, not ${kindName(fetch)}`);
  check('options', options, 'object');
  const { tracer, spans } = options ?? {};
  if (tracer !== undefined && tracer !== null) choose(tracer);
  check('spans', spans, 'boolean');
  watchHops();
  const wrapped = function (this: unknown, input: any, init?: any): Promise<any> {
    // The one of the moment, which a test may have replaced.
    const inner: Fetch = fetch ?? globalThis.fetch;
    const begun = isSuppressed() ? undefined : begin(tracer ?? undefined, input, init, spans ?? true);
    if (begun === undefined) return inner.call(this, input, init);
    const { call } = begun;
    let result: Promise<any>;
    try {
      result = within(call.context.setValue(CALL_KEY, call), () => inner.call(this, input, begun.init));
    } catch (thrown) {
      call.fail(thrown);
      throw thrown;
    }
    if (typeof result?.then !== 'function') {
      call.end();
      return result;
    }
    return result.then(
      (response) => {
        call.status(Number(response?.status ?? 0));
        call.end();
        return response;
      },
      (thrown: unknown) => {
        call.fail(thrown);
        throw thrown;
      },
    );
  };
  Object.defineProperty(wrapped, 'name', { value: 'fetch', configurable: true });
  return wrapped as unknown as F;
}

let watchesHops = false;

/** Has what a redirect goes to be sent what may go there. Node's `fetch` takes along what the first host was sent, and
 * says so; other ones say nothing. */
function watchHops(): void {
  if (watchesHops) return;
  watchesHops = true;
  try {
    const channels = (globalThis as any).process?.getBuiltinModule?.('node:diagnostics_channel');
    channels?.subscribe('undici:request:create', ({ request }: any) => hop(request));
  } catch {
    // There is no such module in this runtime.
  }
}

function hop(request: any): void {
  try {
    const url = urlOfRequest(request);
    if (url !== undefined) followed(request, url, headersOf(request));
  } catch {
    report('a redirect of fetch could not be given its headers');
  }
}

/** `fetch`, as `wrapFetch` makes it of the global one. */
export const tracedFetch: typeof globalThis.fetch = wrapFetch();

function begin(tracer: Tracer | undefined, input: any, init: any, spans: boolean): { call: ClientCall; init: any } | undefined {
  try {
    const isRequest = typeof input === 'object' && input !== null && typeof input.url === 'string';
    const url = urlOf(String(isRequest ? input.url : input), (globalThis as any).location?.href);
    // `fetch` says itself what is wrong with it.
    if (url === undefined) return undefined;
    const headers = new Headers(init?.headers ?? (isRequest ? input.headers : undefined));
    const method = String(init?.method ?? (isRequest ? input.method : 'GET'));
    const found = read(headers);
    // As `fetch` does with the methods that it knows.
    const call = new ClientCall(tracer, method.toUpperCase(), url, spans, found);
    write(headers, call.headers(url, found));
    return { call, init: withHeaders(init, headers) };
  } catch {
    report('a request of fetch could not be traced');
    return undefined;
  }
}

/** The same `init` with other headers; one that is no plain object may have its fields in its prototype. */
function withHeaders(init: any, headers: Headers): any {
  if (init === undefined || init === null || Object.getPrototypeOf(init) === Object.prototype) return { ...init, headers };
  return Object.create(init, { headers: { value: headers, enumerable: true } });
}
