/**
 * Trace, span and session ids in log records.
 *
 *     const logger = pino({ mixin: pinoMixin() });
 *
 * For other loggers: `logger.info({ ...logFields(), … })`.
 */

import { active, SPAN_KEY } from '../context.js';
import { report } from '../core.js';
import { contextOf } from '../provider.js';
import { choose } from '../registry.js';
import { scopeOf } from '../scope.js';
import type { Tracer } from '../tracer.js';

/** What a log record says of where it comes from. What there is not is not in it: ids where no span is current, the session
 * where there is no tracer. */
export interface LogFields {
  /** 32 hex digits. */
  trace_id?: string;
  /** 16 hex digits. */
  span_id?: string;
  session_id?: string;
}

/** The ids that hold here, for the tracer that is meant unless one is given.
 *
 * @throws TypeError for a tracer that is none
 */
export function logFields(tracer?: Tracer): LogFields {
  const context = active();
  const chosen = choose(tracer, context);
  const found: LogFields = {};
  try {
    const span = contextOf(context.getValue(SPAN_KEY) as any);
    if (span !== undefined) {
      found.trace_id = span.traceId;
      found.span_id = span.spanId;
    }
    if (chosen !== undefined) found.session_id = scopeOf(context)?.view(chosen.core.handle).session ?? chosen.sessionId;
  } catch {
    report('a log record could not be given its ids');
  }
  return found;
}

/** A `mixin` of pino: every record has `trace_id`, `span_id` and `session_id`, as far as there are any. Fields of these
 * names that a record has already stay.
 *
 * @throws TypeError for a tracer that is none
 */
export function pinoMixin(tracer?: Tracer): () => LogFields {
  if (tracer !== undefined && tracer !== null) choose(tracer);
  return () => logFields(tracer);
}
