/** OpenTelemetry's propagator over core's codecs: trace context, session and baggage, strict and without loss. */

import { isDefaultGetter, isDefaultSetter, own } from './api.js';
import { check } from './arguments.js';
import { Found, HEADERS, read, readNames, write } from './carriers.js';
import { SPAN_KEY } from './context.js';
import { report } from './core.js';
import { CLIENT, type Context, type TextMapGetter, type TextMapSetter } from './otel-types.js';
import { unwrapped } from './parent.js';
import { extract, inject } from './propagation.js';
import { choose, coreOf } from './registry.js';
import { Span } from './span.js';
import type { Tracer } from './tracer.js';

/** Works with a tracer of ours (`tracer`, or the one that is meant where none is given) and without any: an application
 * that stays on OpenTelemetry's SDK passes on what came in. */
export class TracebatonPropagator {
  private readonly tracer: Tracer | undefined;

  /** @throws TypeError if `tracer` is something else */
  constructor(options: { tracer?: Tracer | undefined } = {}) {
    check('options', options, 'object');
    if (options.tracer !== undefined) choose(options.tracer);
    this.tracer = options.tracer;
  }

  /** `context` with what the carrier holds. It is for every tracer of the process, unless one was given. Whether the
   * caller's trace goes on is a matter of the policy of the tracer that is meant. */
  extract(context: Context, carrier: unknown, getter?: TextMapGetter): Context {
    try {
      const base = own(context);
      const found = isDefaultGetter(getter) ? read(carrier) : got(carrier, getter!);
      const core = this.tracer?.core;
      const policy = core === undefined ? coreOf(undefined, base)?.inboundPolicy : undefined;
      return extract(base, found, core, policy);
    } catch {
      report('a carrier could not be read');
      return context;
    }
  }

  /** Writes what `context` holds into the carrier, as the outbound policy lets it. The destination is what an instrumentor
   * says of the current client span: `server.address`, `url.full` or `http.url`. Where none says anything, all is
   * written. */
  inject(context: Context, carrier: unknown, setter?: TextMapSetter): void {
    try {
      const core = this.tracer === undefined ? coreOf(undefined, context) : this.tracer.core;
      const url = destination(context);
      if (isDefaultSetter(setter)) {
        if (!write(carrier, inject(context, read(carrier), core, url)))
          report('inject: a carrier cannot be written; it stays as it is');
        return;
      }
      inject(context, new Found(), core, url).forEach((value, index) => {
        if (typeof value === 'string') setter!.set(carrier, HEADERS[index], value);
      });
    } catch {
      report('a carrier could not be written');
    }
  }

  /** The headers that `inject` writes. */
  fields(): string[] {
    return [...HEADERS];
  }
}

/** What a getter finds of our headers; one that throws finds nothing. */
function got(carrier: unknown, getter: TextMapGetter): Found {
  const found = new Found();
  readNames(found, (name) => getter.get(carrier, name));
  return found;
}

const ADDRESSES = ['url.full', 'http.url', 'server.address', 'net.peer.name'];

/** Where a request goes, as far as the current client span says. */
export function destination(context: Context): string | undefined {
  const span = unwrapped(context.getValue(SPAN_KEY));
  if (span === undefined || span === null || span.kind !== CLIENT) return undefined;
  for (const key of ADDRESSES) {
    const value = span instanceof Span ? span.attribute(key) : span.attributes?.[key];
    if (typeof value === 'string' && value !== '') return value;
  }
  return undefined;
}
