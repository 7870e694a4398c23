/** Functions for the tracer that is meant where none is given. */

import { millis } from './arguments.js';
import type { SpanFields } from './enrich.js';
import { choose, tracers } from './registry.js';
import type { SessionFields } from './sessions.js';
import type { Tracer } from './tracer.js';

/** Puts fields on the current span: `Tracer.enrichSpan` for the tracer that is meant here, or for `fields.tracer`. */
export function enrichSpan(fields: SpanFields & { tracer?: Tracer | undefined; [metadata: string]: unknown }): boolean {
  const { tracer, ...rest } = fields ?? {};
  return choose(tracer)?.enrichSpan(rest) ?? false;
}

/** Merges fields into a session: `Tracer.enrichSession` for the tracer that is meant here, or for `fields.tracer`. */
export function enrichSession(fields: SessionFields & { tracer?: Tracer | undefined }): boolean {
  const { tracer, ...rest } = fields ?? {};
  return choose(tracer)?.enrichSession(rest) ?? false;
}

/** Delivers what has ended so far, of one tracer or, without one, of all at the same time: true only if all of it was
 * delivered within the time (milliseconds). */
export async function flush(tracer?: Tracer | null, timeoutMillis = 30_000): Promise<boolean> {
  const within = millis('timeoutMillis', timeoutMillis);
  const meant = tracer === undefined || tracer === null ? tracers() : [choose(tracer)!];
  const done = await Promise.all(meant.map((one) => one.flush(within)));
  return done.every(Boolean);
}
