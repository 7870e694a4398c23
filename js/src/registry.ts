/** Which tracer is meant where none is given. */

import { kindName } from './arguments.js';
import { BLOCK_KEY, SPAN_KEY, active } from './context.js';
import type { Core } from './core.js';
import type { Context } from './otel-types.js';
import { unwrapped } from './parent.js';
import { Span } from './span.js';
import type { Tracer } from './tracer.js';

/** What a block of code is about: the tracer, and the span that was current when it began. */
export interface Block {
  readonly tracer: Tracer;
  readonly span: unknown;
}

interface Ref {
  deref(): Tracer | undefined;
}

/** A runtime may have no weak references; what it runs does not make tracers without end. */
const weak = (tracer: Tracer): Ref =>
  typeof WeakRef === 'function' ? new WeakRef(tracer) : { deref: () => tracer };

/** In the order in which they were made. */
const alive = new Set<Ref>();
// Kept alive: a program may call `init` and never look at the result.
let first: Tracer | undefined;
let chosen: Tracer | undefined;
/** What is to be told of the program's own first tracer. */
let whenSucceeded: ((successor: Tracer) => void) | undefined;

/** Those that are alive and not shut down, in the order in which they were made. */
export function tracers(): Tracer[] {
  const found: Tracer[] = [];
  for (const made of alive) {
    const tracer = made.deref();
    if (tracer === undefined) alive.delete(made);
    else found.push(tracer);
  }
  return found;
}

/** Takes note of a new tracer; the first one is the default until another is set. */
export function register(tracer: Tracer): void {
  alive.add(weak(tracer));
  if (whenSucceeded !== undefined) {
    first = tracer;
    whenSucceeded(tracer);
    whenSucceeded = undefined;
  }
  first ??= tracer;
}

/** Has the next tracer that is made be the default in place of the first: that one was made for a program that may make
 * its own. `then` is told of it. */
export function yieldToNext(then: (successor: Tracer) => void): void {
  whenSucceeded = then;
}

/** A tracer that was shut down is nobody's default: the one that was made after it is. */
export function forget(tracer: Tracer): void {
  for (const made of alive) if (made.deref() === tracer) alive.delete(made);
  if (chosen === tracer) chosen = undefined;
  if (first === tracer) first = tracers()[0];
}

/** Sets the tracer that is meant where none is given and none is current; `undefined` unsets it.
 *
 * @throws TypeError if it is no tracer
 */
export function setDefaultTracer(tracer: Tracer | null | undefined): void {
  if (tracer !== undefined && tracer !== null) checkTracer(tracer);
  chosen = tracer ?? undefined;
}

/** The tracer that is meant here: that of the current span or block, else the default one: the one that was set, else the
 * first that was initialised. */
export function getTracer(): Tracer | undefined {
  return tracerOf(active()) ?? chosen ?? first;
}

/** The tracer of the span or block that is current in a context. */
export function tracerOf(context: Context): Tracer | undefined {
  const block = context.getValue(BLOCK_KEY) as Block | undefined;
  const current = context.getValue(SPAN_KEY);
  if (block !== undefined && current === block.span) return block.tracer;
  // A span that became current without a block of ours is newer than the block.
  const span = unwrapped(current);
  if (span instanceof Span && span.core.owner !== undefined) return span.core.owner as Tracer;
  return block?.tracer;
}

/** The tracer of an argument `tracer`; where it is not given, the one that is meant.
 *
 * @throws TypeError if it is something else
 */
export function choose(tracer: unknown, context?: Context): Tracer | undefined {
  if (tracer !== undefined && tracer !== null) return checkTracer(tracer);
  return tracerOf(context ?? active()) ?? chosen ?? first;
}

/** The native side of the tracer that an argument means. */
export function coreOf(tracer: unknown, context: Context): Core | undefined {
  return choose(tracer, context)?.core;
}

function checkTracer(tracer: any): Tracer {
  if (tracer?.core === undefined || tracer.core.owner !== tracer) {
    throw new TypeError(`tracer must be a Tracer, not ${kindName(tracer)}`);
  }
  return tracer;
}
