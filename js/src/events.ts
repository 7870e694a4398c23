/** `createEvent`: a span with the times that it is given. */

import { check, kindName, require_, snake } from './arguments.js';
import { SCOPE_KEY, active } from './context.js';
import { report } from './core.js';
import { enrich, fieldsOf, type SpanFields } from './enrich.js';
import { scopeOf, withSession } from './scope.js';
import { checkSessionId } from './session-id.js';
import type { Tracer } from './tracer.js';

/** An event that is told of afterwards. */
export interface EventOptions extends SpanFields {
  /** Milliseconds since 1970. Of the three times, what is not given follows from the others; an event of which only the
   * start is known has no duration, one without any of them is now. */
  startTime?: number;
  /** Milliseconds since 1970. */
  endTime?: number;
  /** Milliseconds. */
  duration?: number;
  /** The session that it is put into. */
  sessionId?: string;
  source?: string;
  project?: string;
}

const TEXTS = ['error', 'event_id', 'event_name', 'event_type', 'project', 'session_id', 'source'];
/** The last millisecond that the nanoseconds of a record can tell. */
const END_OF_TIME = Math.floor(Number(2n ** 63n - 1n) / 1e6);

/** Records an event; the id of its span, or null where it is not recorded. */
export function createEvent(
  tracer: Tracer,
  first: string | (EventOptions & { eventName: string }),
  second: EventOptions = {},
): string | null {
  const options: EventOptions = typeof first === 'string' ? { ...second, eventName: first } : first;
  if (options === null || typeof options !== 'object' || Array.isArray(options)) {
    throw new TypeError(`options must be an object, not ${kindName(options)}`);
  }
  const { fields, others } = fieldsOf(options, TEXTS);
  const times: Record<string, number> = {};
  for (const [name, value] of Object.entries(others)) {
    const key = snake(name);
    if (key !== 'start_time' && key !== 'end_time' && key !== 'duration')
      throw new TypeError(`createEvent has no option ${name}`);
    check(name, value, 'number');
    const millis = value as number;
    if (!(millis >= 0 && millis <= END_OF_TIME))
      throw new RangeError(`${name} must be a number of milliseconds from 0 on`);
    times[key] = millis;
  }
  const { event_name: name = 'event', event_type: type = 'tool', session_id: sessionId, ...rest } = fields as any;
  require_('eventName', name, 'string');
  if (sessionId !== undefined) checkSessionId('sessionId', sessionId);
  const [begin, end] = span(times['start_time'], times['end_time'], times['duration']);
  let context = active();
  if (sessionId !== undefined) {
    context = context.setValue(
      SCOPE_KEY,
      withSession(scopeOf(context), tracer.core.handle, sessionId, undefined, false),
    );
  }
  try {
    const event = tracer.otelTracer.begun(name, { startTime: hr(begin) }, context);
    if (!event.isRecording()) return null;
    enrich(event, { ...rest, event_type: type, event_name: name });
    event.end(hr(end));
    return event.spanId;
  } catch {
    report('an event could not be captured');
    return null;
  }
}

/** Milliseconds as seconds and nanoseconds: a small number of milliseconds is no reading of `performance.now()`. */
function hr(millis: number): [number, number] {
  const seconds = Math.floor(millis / 1e3);
  return [seconds, (millis - seconds * 1e3) * 1e6];
}

/** Begin and end, of what is given. */
function span(start: number | undefined, end: number | undefined, duration = 0): [number, number] {
  if (start === undefined && end === undefined) end = Date.now();
  const begin = start ?? Math.max(end! - duration, 0);
  return [begin, Math.max(begin, end ?? Math.min(begin + duration, END_OF_TIME))];
}
