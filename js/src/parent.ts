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
  if (span instanceof Span) {
    if (core === undefined || span.core === core) return span;
    span = span.around.find((outer) => !(outer instanceof Span) || outer.core === core);
    if (span instanceof Span) return span;
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
  const span = parentOf(context, core);
  return span instanceof Span && span.isRecording() ? span : undefined;
}

const NOTHING: readonly unknown[] = [];

/** `around` of a span of this tracer that begins where another span is current. */
export function aroundOf(current: unknown, core: Core): readonly unknown[] {
  if (current === undefined || current === null) return NOTHING;
  if (!(current instanceof Span)) return [current];
  if (current.core === core) return lasting(current.around);
  const outer = current.around.filter((span) => !(span instanceof Span) || span.core !== core);
  return lasting([current, ...outer]);
}

/** Spans, those that have ended by what lasts of them: that has nothing around itself. */
export function lasting(around: readonly unknown[]): readonly unknown[] {
  const isOver = (span: unknown): span is Span => span instanceof Span && span.ended && span.around.length > 0;
  return around.some(isOver) ? around.map((span) => (isOver(span) ? span.shade() : span)) : around;
}
