/**
 * Instruments Node's own HTTP servers and clients, and `fetch`, for the whole process.
 *
 *     import { instrument } from 'tracebaton/instrument';
 *     const undo = instrument();
 *
 * `node --import tracebaton/register` does that before a program's first line. Programs that were loaded before have the
 * functions that were there then: call it early.
 */

import { syncBuiltinESMExports } from 'node:module';

import { check, kindName } from '../arguments.js';
import { report } from '../core.js';
import { choose } from '../registry.js';
import type { Tracer } from '../tracer.js';
import { instrumentNodeClient } from './node-client.js';
import { instrumentNodeServer } from './node-server.js';
import { instrumentUndici } from './undici.js';

/** What is to be instrumented: everything unless it is `false`. */
export interface InstrumentOptions {
  /** The tracer; the one that is meant at each request, unless one is given. */
  tracer?: Tracer | undefined;
  /** Requests that come in, at servers of `http` and `https`. */
  server?: boolean | undefined;
  /** Requests that go out by `http` and `https`. */
  client?: boolean | undefined;
  /** Requests that go out by `fetch`, and by the package `undici`. */
  fetch?: boolean | undefined;
  /** Whether each request has a span; default true. Trace and session are carried along in any case. */
  spans?: boolean | undefined;
}

const PARTS = { server: instrumentNodeServer, client: instrumentNodeClient, fetch: instrumentUndici } as const;
/** What is instrumented in this process, also by another copy of this package. */
const done: Set<string> = ((globalThis as any)[Symbol.for('tracebaton instrumented')] ??= new Set());

/** Instruments what was not before; returns what undoes that.
 *
 * Where somebody's instrumentation makes a span for a request, there is no second one.
 *
 * @throws TypeError for an option of a wrong type or name
 */
export function instrument(options: InstrumentOptions = {}): () => void {
  if (options === null || typeof options !== 'object') throw new TypeError(`options must be an object, not ${kindName(options)}`);
  const { tracer, spans, ...parts } = options;
  check('spans', spans, 'boolean');
  if (tracer !== undefined && tracer !== null) choose(tracer);
  for (const [name, value] of Object.entries(parts)) {
    if (!Object.hasOwn(PARTS, name)) throw new TypeError(`there is no option ${name}`);
    check(name, value, 'boolean');
  }
  const undo: [string, () => void][] = [];
  for (const name of Object.keys(PARTS) as (keyof typeof PARTS)[]) {
    if (parts[name] === false || done.has(name)) continue;
    try {
      undo.push([name, PARTS[name](tracer ?? undefined, spans ?? true)]);
      done.add(name);
    } catch {
      report(`${name} could not be instrumented`);
    }
  }
  syncBuiltinESMExports();
  return () => {
    for (const [name, one] of undo.splice(0)) {
      one();
      done.delete(name);
    }
    syncBuiltinESMExports();
  };
}
