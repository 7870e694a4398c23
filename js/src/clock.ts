/** Times: the wall clock says when a trace begins, a clock that never jumps says how long things take. */

import type { TimeInput } from './otel-types.js';
import { clockOrigin, reading } from './runtime.js';

const { performance } = globalThis;
/** Until the wall clock and ours are so far apart (milliseconds), ours is taken for right: it is finer. */
const TOLERANCE = 1.5;

let origin: number | undefined;

/** Where the times of a local trace count from. */
export class Anchor {
  /** What is to be added to readings of the clock, in milliseconds, to get the time since 1970. */
  readonly origin: number;
  /** The reading of the clock when it was made. */
  readonly begun: number;

  constructor() {
    origin ??= clockOrigin();
    this.begun = reading();
    const skew = Date.now() - origin - this.begun;
    // `Date.now` is cut to milliseconds. The machine may have slept, or its clock may have been set.
    if (skew < -TOLERANCE || skew > TOLERANCE) origin += skew;
    this.origin = origin;
  }
}

/** A time as records have it: two numbers of milliseconds since 1970, to be added. */
export class Moment {
  constructor(
    readonly base: number,
    readonly offset: number,
  ) {}
}

/** A time that a program gives; `undefined` if it is none. */
export function momentOf(time: TimeInput | undefined): Moment | undefined {
  if (typeof time === 'number') {
    if (!Number.isFinite(time) || time < 0) return undefined;
    // As OpenTelemetry's SDK tells them apart: what the process has not reached is no reading of `performance.now()`.
    return time <= performance.now() ? new Moment(performance.timeOrigin, time) : new Moment(time, 0);
  }
  if (Array.isArray(time)) {
    const [seconds, nanos] = time;
    const sound = Number.isFinite(seconds) && Number.isFinite(nanos) && seconds >= 0;
    return sound ? new Moment(seconds * 1e3, nanos / 1e6) : undefined;
  }
  if (time instanceof Date) {
    const millis = time.getTime();
    return Number.isNaN(millis) ? undefined : new Moment(millis, 0);
  }
  return undefined;
}

/** Seconds and nanoseconds, as OpenTelemetry's SDK has times. */
export function hrTimeOf(base: number, offset: number): [number, number] {
  // Whole milliseconds apart from the rest, so that no nanoseconds are lost.
  const whole = Math.trunc(base);
  let seconds = Math.trunc(whole / 1e3);
  let nanos = Math.round((whole - seconds * 1e3 + (base - whole) + offset) * 1e6);
  const more = Math.floor(nanos / 1e9);
  seconds += more;
  nanos -= more * 1e9;
  return [seconds, nanos];
}
