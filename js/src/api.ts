/** `@opentelemetry/api`, if the program has it: its globals, and what its defaults are known by. */

import { ROOT, ownManager, registered, replaceRegistered } from './context.js';
import { environment } from './environment.js';
import type { Context } from './otel-types.js';
import { requireApi } from './runtime.js';

let loaded: any;
let tried = false;

/** The package; undefined where it is not installed. */
export function api(): any {
  if (!tried) {
    tried = true;
    try {
      loaded = requireApi();
    } catch {
      // It is an optional one.
    }
  }
  return loaded;
}

/** Has OpenTelemetry's API use our context manager, where no other one is registered. */
export function installContextManager(): void {
  if (registered('context') === undefined) api()?.context.setGlobalContextManager(ownManager);
}

/** Makes a propagator the global one, unless another was chosen. */
export function installPropagator(make: () => unknown): void {
  if (environment()['OTEL_PROPAGATORS']) return;
  const there = registered('propagation');
  if (there === undefined) api()?.propagation.setGlobalPropagator(make());
  else if (isDefaultPropagator(there)) replaceRegistered('propagation', make());
}

/** Whether this is what OpenTelemetry's SDK registers where nobody says anything. */
function isDefaultPropagator(propagator: any): boolean {
  const parts: unknown = propagator?._propagators;
  if (propagator?.constructor?.name !== 'CompositePropagator' || !Array.isArray(parts)) return false;
  return parts.map((part) => part?.constructor?.name).join() === 'W3CTraceContextPropagator,W3CBaggagePropagator';
}

/** Makes a provider the global one, unless there is one. Whether it is the global one now. */
export function installProvider(provider: unknown): boolean {
  return api()?.trace.setGlobalTracerProvider(provider) === true;
}

/** A context in the form that is quickest here: one of the API's that says nothing is ours that says nothing. */
export function own(context: Context): Context {
  if (context === lastRoot) return ROOT;
  const values = (context as any)._currentContext;
  if (!(values instanceof Map) || values.size > 0) return context;
  lastRoot = context;
  return ROOT;
}

let lastRoot: Context | undefined;

// The package comes in two forms, for ES modules and for CommonJS, which may both be there: so its defaults are known by
// what they do, not by what they are.
const known = new WeakMap<object, boolean>();

/** Whether a getter is the API's default one, which looks at one spelling only. */
export function isDefaultGetter(getter: any): boolean {
  return getter === undefined || getter === null || isKnown(getter, getter.get, 'defaultTextMapGetter', 'get');
}

/** Whether a setter is the API's default one. */
export function isDefaultSetter(setter: any): boolean {
  return setter === undefined || setter === null || isKnown(setter, setter.set, 'defaultTextMapSetter', 'set');
}

let lastKnown: object | undefined;

function isKnown(given: object, method: unknown, name: string, part: string): boolean {
  if (given === lastKnown) return true;
  let same = known.get(given);
  if (same === undefined) {
    const theirs = api()?.[name];
    same = theirs !== undefined && (given === theirs || source(method) === source(theirs[part]));
    known.set(given, same);
  }
  if (same) lastKnown = given;
  return same;
}

/** A function's source, but for how it is laid out. */
function source(method: unknown): string {
  return typeof method === 'function' ? Function.prototype.toString.call(method).replace(/\s+/g, '') : '';
}
