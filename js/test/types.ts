// Compiled only: what this package declares must be what OpenTelemetry's API declares.
import type * as api from '@opentelemetry/api';

import {
  Span,
  Tracer,
  TracebatonPropagator,
  enrichSpanContext,
  trace,
  withDistributedTraceContext,
  type TracerProvider,
} from '../dist/cjs/index.js';
import { ownManager, ROOT } from '../dist/cjs/context.js';
import type { OwnBaggage } from '../dist/cjs/scope.js';
import type { OwnTraceState } from '../dist/cjs/span-context.js';

declare const span: Span;
declare const provider: TracerProvider;
declare const baggage: OwnBaggage;
declare const state: OwnTraceState;
declare const theirs: api.Context;

export const asSpan: api.Span = span;
export const asProvider: api.TracerProvider = provider;
export const asTracer: api.Tracer = provider.getTracer('x');
export const asPropagator: api.TextMapPropagator = new TracebatonPropagator();
export const asManager: api.ContextManager = ownManager;
export const asContext: api.Context = ROOT;
export const asState: api.TraceState = state;
export const entry: string | undefined = baggage.getEntry('k')?.value;
provider.getTracer('x').startSpan('s', { kind: 2 as api.SpanKind, attributes: { a: 1 } }, theirs);

const tracer = Tracer.init({ exporter: 'memory', policy: { inbound: 'restart' } });
const double: (n: number) => number = trace({ eventType: 'tool' }, (n: number) => 2 * n);
const number: number = enrichSpanContext({ eventName: 'x', inputs: { a: 1 } }, () => double(1));
const promise: Promise<string> = withDistributedTraceContext({}, tracer, async () => 'x');
export { number, promise };

export class Service {
  @trace({ eventType: 'chain' })
  answer(question: string): string {
    return question;
  }
}
// @ts-expect-error: no such option's type
Tracer.init({ apiKey: 5 });
// @ts-expect-error: no such option
Tracer.init({ nope: 1 });
Tracer.init({ api_key: 'k', cacheEnabled: true, limits: { attributes: 5 }, policy: { inbound: 'restart' } });
