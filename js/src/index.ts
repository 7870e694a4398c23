/**
 * Distributed trace context for AI services.
 *
 * One request through several services becomes one tree in one session. `Tracer.init()` makes a tracer (also under the
 * name `HoneyHiveTracer`), `trace` and `enrichSpanContext` record spans, `injectContextIntoCarrier` and
 * `withDistributedTraceContext` carry trace and session to the next service, whatever it is written in.
 */

export { bind, bindIterator, bindStream, contextCarrier } from './bind.js';
export {
  explain,
  extractContextFromCarrier,
  extractContextFromCarrier as extract_context_from_carrier,
  injectContextIntoCarrier,
  injectContextIntoCarrier as inject_context_into_carrier,
  withDistributedTraceContext,
  withDistributedTraceContext as with_distributed_trace_context,
  type DistributedOptions,
  type Finding,
  type InjectOptions,
} from './distributed.js';
export type { SpanFields } from './enrich.js';
export type { EventOptions } from './events.js';
export { enrichSession, enrichSpan, flush } from './free.js';
export { enrichSession as enrich_session, enrichSpan as enrich_span } from './free.js';
export { Policy, type PolicyOptions } from './policy.js';
export { TracebatonPropagator } from './propagator.js';
export { OtelTracer, TracerProvider } from './provider.js';
export {
  getTracer,
  getTracer as get_tracer,
  setDefaultTracer,
  setDefaultTracer as set_default_tracer,
} from './registry.js';
export type { SessionFields, SessionOptions } from './sessions.js';
export { Span } from './span.js';
export {
  enrichSpanContext,
  enrichSpanContext as enrich_span_context,
  trace,
  trace as atrace,
  type SpanContextOptions,
  type TraceOptions,
} from './trace.js';
export { Tracer, Tracer as HoneyHiveTracer, type InitOptions, type Stats } from './tracer.js';
export { VERSION } from './version.js';
