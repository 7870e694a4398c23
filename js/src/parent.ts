/** The parent of a new span: whatever is current, unless that is a span of another tracer of ours. */

import { SPAN_KEY } from './context.js';
import type { Core } from './core.js';
import type { Context, SpanContext } from './otel-types.js';
import { isValid } from './span-context.js';
import { Span } from './span.js';

/** The span itself, where an instrumentor wrapped it. */
export function unwrapped(span: any): any {
  if (span instanceof Span) return span;
  const inner = span?.span;
  return inner instanceof Span ? inner : span;
}

/** What the current span of a context is to a new span of a tracer: one of its own, or the context of another. Spans of
 * other tracers of ours report to other places: what was current before them is meant. */
export function parentOf(context: Context, core: Core | undefined): Span | SpanContext | undefined {
  let span = unwrapped(context.getValue(SPAN_KEY));
  while (span instanceof Span) {
    if (core === undefined || span.core === core) return span;
    span = unwrapped(span.outer);
  }
  if (span === undefined || span === null) return undefined;
  try {
    const other = span.spanContext();
    return isValid(other) ? other : undefined;
  } catch {
    return undefined;
  }
}

/** The innermost span of a tracer in a context that is still recorded, seen through those of others. */
export function ownSpan(context: Context, core: Core): Span | undefined {
  let span = unwrapped(context.getValue(SPAN_KEY));
  while (span instanceof Span) {
    if (span.core === core && span.isRecording()) return span;
    span = unwrapped(span.outer);
  }
  return undefined;
}
