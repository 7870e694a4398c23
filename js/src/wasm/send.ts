/** The requests that bring spans to their destinations, by `fetch`. */

import { ROOT, SUPPRESS_KEY, within } from '../context.js';

const { fetch, AbortSignal } = globalThis as any;

/** A request, as `bindings-wasm` describes it. */
export interface Request {
  readonly url: string;
  readonly method: string;
  readonly headers: readonly [string, string][];
  readonly gzip: boolean;
  /** Milliseconds. */
  readonly timeout: number;
  readonly body: Uint8Array;
}

/** What came of it; the status 0 says that there was no answer. */
export interface Reply {
  readonly status: number;
  /** The pause that was asked for, in milliseconds; less than 0: none. */
  readonly after: number;
  readonly rejected: number;
  readonly said: Uint8Array;
  readonly isProtobuf: boolean;
}

/** Bodies up to this size (bytes) are sent as they are. */
const GZIP_ABOVE = 1024;
/** `fetch` with `keepalive` takes no more. */
const KEEPALIVE_MOST = 60_000;
const NOTHING = new Uint8Array(0);

// What delivers spans makes none, nor does it carry a session.
const UNTRACED = ROOT.setValue(SUPPRESS_KEY, true);

/** Sends a request and waits for the end of its answer. Nothing is thrown. `keepalive`: also while a page is left. */
export async function send(request: Request, timeoutMs: number, keepalive: boolean): Promise<Reply> {
  try {
    const headers = new Headers(request.headers as any);
    let body: Uint8Array = request.body;
    // A page may be left at any time, and then sends at once or not at all: to compress takes a moment.
    const least = keepalive ? KEEPALIVE_MOST : GZIP_ABOVE;
    if (request.gzip && body.length > least && typeof CompressionStream === 'function') {
      const packed = new Blob([body as any]).stream().pipeThrough(new CompressionStream('gzip') as any);
      body = new Uint8Array(await new Response(packed as any).arrayBuffer());
      headers.set('content-encoding', 'gzip');
    }
    const init = {
      method: request.method,
      headers,
      body,
      redirect: 'manual',
      signal: AbortSignal.timeout(Math.max(1, Math.min(request.timeout, timeoutMs))),
      ...(keepalive && body.length <= KEEPALIVE_MOST ? { keepalive } : undefined),
    };
    const response: any = await within(UNTRACED, () => fetch(request.url, init));
    const said = new Uint8Array(await response.arrayBuffer());
    // What a browser shows of a redirect it does not follow has no status.
    const status = response.status === 0 ? 300 : response.status;
    return { status, after: pause(response.headers.get('retry-after')), ...partialSuccess(response, said) };
  } catch {
    return { status: 0, after: -1, rejected: 0, said: NOTHING, isProtobuf: false };
  }
}

/** `Retry-After`: seconds, or a date. Anything else is as if it were not there. */
function pause(text: string | null): number {
  if (text === null) return -1;
  if (/^\s*\d+\s*$/.test(text)) return Number(text) * 1e3;
  const date = Date.parse(text);
  return Number.isNaN(date) ? -1 : Math.max(0, date - Date.now());
}

function partialSuccess(response: any, said: Uint8Array): Pick<Reply, 'rejected' | 'said' | 'isProtobuf'> {
  const type = (response.headers.get('content-type') ?? '').split(';')[0].trim().toLowerCase();
  if (type === 'application/x-protobuf') return { rejected: 0, said, isProtobuf: true };
  if (type !== 'application/json' || said.length === 0) return { rejected: 0, said: NOTHING, isProtobuf: false };
  try {
    const { partialSuccess: partial } = JSON.parse(new TextDecoder().decode(said)) ?? {};
    const rejected = Number(partial?.rejectedSpans ?? 0);
    const message = typeof partial?.errorMessage === 'string' ? partial.errorMessage : '';
    return { rejected: rejected > 0 ? rejected : 0, said: new TextEncoder().encode(message), isProtobuf: false };
  } catch {
    return { rejected: 0, said: new TextEncoder().encode('the answer is damaged'), isProtobuf: false };
  }
}
