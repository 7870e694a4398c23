/** Outgoing requests of `fetch` and of undici, the package: they say on channels what they do. */

import { channel, subscribe, unsubscribe } from 'node:diagnostics_channel';

import { report } from '../core.js';
import type { Tracer } from '../tracer.js';
import { ClientCall, isSuppressed } from './client.js';
import { followed, headersOf, setHeaders, urlOfRequest, type UndiciRequest } from './undici-request.js';

const calls = new WeakMap<UndiciRequest, ClientCall>();

/** Has every request of undici carry our headers, with a CLIENT span each; returns what undoes that. */
export function instrumentUndici(tracer: Tracer | undefined, spans: boolean): () => void {
  const onCreate = (message: any): void => begin(message.request, tracer, spans);
  const undo = subscribeLast('undici:request:create', onCreate);
  const others: [string, (message: any) => void][] = [
    ['undici:request:headers', ({ request, response }) => calls.get(request)?.status(response.statusCode)],
    ['undici:request:trailers', ({ request }) => calls.get(request)?.end()],
    ['undici:request:error', ({ request, error }) => calls.get(request)?.fail(error)],
  ];
  for (const [name, listener] of others) subscribe(name, listener);
  return () => {
    undo();
    for (const [name, listener] of others) unsubscribe(name, listener);
  };
}

/** Subscribes to a channel so that whoever else does is called before: what another instrumentation has put into a request
 * is to be seen. */
function subscribeLast(name: string, listener: (message: any) => void): () => void {
  const to = channel(name);
  subscribe(name, listener);
  Object.defineProperty(to, 'subscribe', {
    configurable: true,
    writable: true,
    value(other: any): void {
      // The methods of this moment: a channel changes its prototype with its first and last subscriber.
      Object.getPrototypeOf(to).subscribe.call(to, other);
      // In this order there is always a subscriber. The first of two that are the same is the one that goes.
      Object.getPrototypeOf(to).subscribe.call(to, listener);
      to.unsubscribe(listener);
    },
  });
  return () => {
    delete (to as any).subscribe;
    to.unsubscribe(listener);
  };
}

function begin(request: UndiciRequest, tracer: Tracer | undefined, spans: boolean): void {
  try {
    // Connections to a proxy, and what is no request any more once it is answered.
    if (isSuppressed() || request.method === 'CONNECT') return;
    const url = urlOfRequest(request);
    if (url === undefined) return;
    const found = headersOf(request);
    if (followed(request, url, found)) return;
    const call = new ClientCall(tracer, request.method, url, spans && !request.upgrade, found);
    setHeaders(request, call.headers(url, found));
    if (call.hasSpan) calls.set(request, call);
  } catch {
    report('a request of fetch could not be traced');
  }
}
