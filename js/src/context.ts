/**
 * The current context: OpenTelemetry's, where somebody has registered a context manager, ours otherwise.
 *
 * Contexts are immutable and have the interface of `@opentelemetry/api`. What everybody asks for has a field of its own.
 */

import type { Context, ContextManager } from './otel-types.js';
import { execution, onRequestStart, storage } from './runtime.js';

/** Where OpenTelemetry's API keeps the current span. */
export const SPAN_KEY = Symbol.for('OpenTelemetry Context Key SPAN');
/** Where it keeps baggage. */
export const BAGGAGE_KEY = Symbol.for('OpenTelemetry Baggage Key');
/** Where its SDK says that nothing is to be traced. */
export const SUPPRESS_KEY = Symbol.for('OpenTelemetry SDK Context Key SUPPRESS_TRACING');
/** Session and raw baggage: a `Scope`. Two copies of this package do not read each other's. */
export const SCOPE_KEY = Symbol('tracebaton scope');
/** Where everything is done in requests, the one that this is: a `Mailing`. */
export const REQUEST_KEY = Symbol('tracebaton request');
/** The tracer of the innermost block that has one: a `Block`. */
export const BLOCK_KEY = Symbol('tracebaton block');

/** A context of ours. */
class OwnContext implements Context {
  private readonly span: unknown;
  private readonly scope: unknown;
  private readonly baggage: unknown;
  private readonly block: unknown;
  private readonly others: ReadonlyMap<symbol, unknown> | undefined;

  constructor(
    span: unknown,
    scope: unknown,
    baggage: unknown,
    block: unknown,
    others: ReadonlyMap<symbol, unknown> | undefined,
  ) {
    this.span = span;
    this.scope = scope;
    this.baggage = baggage;
    this.block = block;
    this.others = others;
  }

  getValue(key: symbol): unknown {
    switch (key) {
      case SPAN_KEY:
        return this.span;
      case SCOPE_KEY:
        return this.scope;
      case BAGGAGE_KEY:
        return this.baggage;
      case BLOCK_KEY:
        return this.block;
      default:
        return this.others === undefined ? undefined : this.others.get(key);
    }
  }

  setValue(key: symbol, value: unknown): Context {
    switch (key) {
      case SPAN_KEY:
        return new OwnContext(value, this.scope, this.baggage, this.block, this.others);
      case SCOPE_KEY:
        return new OwnContext(this.span, value, this.baggage, this.block, this.others);
      case BAGGAGE_KEY:
        return new OwnContext(this.span, this.scope, value, this.block, this.others);
      case BLOCK_KEY:
        return new OwnContext(this.span, this.scope, this.baggage, value, this.others);
      default:
        return new OwnContext(this.span, this.scope, this.baggage, this.block, new Map(this.others).set(key, value));
    }
  }

  deleteValue(key: symbol): Context {
    if (this.others?.has(key)) {
      const others = new Map(this.others);
      others.delete(key);
      return new OwnContext(this.span, this.scope, this.baggage, this.block, others.size === 0 ? undefined : others);
    }
    return this.getValue(key) === undefined ? this : this.setValue(key, undefined);
  }
}

/** The context that says nothing. */
export const ROOT: Context = new OwnContext(undefined, undefined, undefined, undefined, undefined);

/** `base` with what `extract` found; faster than setting one after the other. */
export function extended(base: Context, span: unknown, scope: unknown, baggage: unknown): Context {
  if (base === ROOT) return new OwnContext(span, scope, baggage, undefined, undefined);
  let context = base;
  if (span !== base.getValue(SPAN_KEY)) context = context.setValue(SPAN_KEY, span);
  if (scope !== base.getValue(SCOPE_KEY)) context = context.setValue(SCOPE_KEY, scope);
  if (baggage !== base.getValue(BAGGAGE_KEY)) context = context.setValue(BAGGAGE_KEY, baggage);
  return context;
}

/** Our context manager, also for OpenTelemetry's API. */
class OwnContextManager implements ContextManager {
  active(): Context {
    return storage.getStore() ?? ROOT;
  }

  with<A extends unknown[], F extends (...args: A) => ReturnType<F>>(
    context: Context,
    fn: F,
    thisArg?: ThisParameterType<F>,
    ...args: A
  ): ReturnType<F> {
    if (thisArg === undefined && args.length === 0) return storage.run(context, fn as () => ReturnType<F>);
    return storage.run(context, () => fn.apply(thisArg, args));
  }

  bind<T>(context: Context, target: T): T {
    return bound(this, context, target);
  }

  /** Makes a context the current one for what comes next in this execution; `dispose` goes back. */
  attach(context: Context): { dispose(): void } {
    const previous = this.active();
    storage.enterWith(context);
    return { dispose: () => storage.enterWith(previous) };
  }

  enable(): this {
    return this;
  }

  disable(): this {
    return this;
  }
}

/** The one context manager of ours. */
export const ownManager = new OwnContextManager();

const GLOBAL_KEY = Symbol.for('opentelemetry.js.api.1');
let apiGlobal: { context?: ContextManager } | undefined;

/** The context manager that holds: the one that is registered with OpenTelemetry's API, else ours. */
export function manager(): ContextManager {
  // The object is made once, when the first of the API's parts is registered.
  apiGlobal ??= (globalThis as any)[GLOBAL_KEY];
  return apiGlobal?.context ?? ownManager;
}

/** What is registered with OpenTelemetry's API under this name. */
export function registered(name: 'propagation' | 'trace' | 'context'): any {
  return (globalThis as any)[GLOBAL_KEY]?.[name];
}

/** Puts something else in the place of what is registered there. */
export function replaceRegistered(name: 'propagation', value: unknown): void {
  (globalThis as any)[GLOBAL_KEY][name] = value;
}

/** The current context. */
export function active(): Context {
  const now = manager();
  return now === ownManager ? (storage.getStore() ?? ROOT) : now.active();
}

/** Runs `fn` with another current context, and returns what it returns. */
export function within<R>(context: Context, fn: () => R): R {
  const now = manager();
  return now === ownManager ? storage.run(context, fn) : now.with(context, fn);
}

/** The same for a function of one argument. */
export function withinCall<A, R>(context: Context, fn: (argument: A) => R, argument: A): R {
  const now = manager();
  return now === ownManager ? storage.run(context, fn, argument) : now.with(context, fn, undefined, argument);
}

/** Makes a context the current one for what comes next in this execution, until the block around it ends. Returns whether
 * that was possible: OpenTelemetry's interface has no word for it, but its managers have. */
export function enter(context: Context): boolean {
  const here = execution();
  if (here !== undefined) {
    if (!watchesRequests) onRequestStart(leave);
    watchesRequests = true;
    entered.set(context, { before: active(), by: new WeakRef(here) });
  }
  return put(context);
}

let watchesRequests = false;

/** The contexts that were entered: what held before, and what called whoever entered one. */
const entered = new WeakMap<Context, { before: Context; by: WeakRef<object> }>();

/** A request begins. Before Node 24 all requests of a connection are called for the same object, which keeps the context
 * that was entered for the one before. */
function leave(): void {
  const now = active();
  const here = execution();
  let context = now;
  for (;;) {
    const left = entered.get(context);
    if (left === undefined || left.by.deref() !== here) break;
    context = left.before;
  }
  if (context !== now) put(context);
}

/** Changes the current context; whether that was possible. */
function put(context: Context): boolean {
  const now: any = manager();
  try {
    if (now === ownManager) storage.enterWith(context);
    else if (typeof now._asyncLocalStorage?.enterWith === 'function') now._asyncLocalStorage.enterWith(context);
    else if (typeof now.attach === 'function') now.attach(context);
    else return false;
    return true;
  } catch {
    // A runtime that only knows blocks.
    return false;
  }
}

const LISTENERS = ['addListener', 'on', 'once', 'prependListener', 'prependOnceListener'];

/** A function, or an event emitter's listeners, that run in a context whoever calls them. */
export function bound<T>(by: ContextManager, context: Context, target: T): T {
  if (typeof target === 'function') return boundFunction(by, context, target as any) as T;
  if (isEmitter(target)) return boundEmitter(by, () => context, target);
  return target;
}

function boundFunction<F extends (...args: any[]) => any>(by: ContextManager, context: Context, fn: F): F {
  const wrapper = function (this: any, ...args: any[]): any {
    return by.with(context, () => fn.apply(this, args));
  };
  Object.defineProperty(wrapper, 'length', { value: fn.length, configurable: true });
  Object.defineProperty(wrapper, 'name', { value: fn.name, configurable: true });
  return wrapper as F;
}

function isEmitter(target: any): boolean {
  return target !== null && typeof target === 'object' && LISTENERS.every((name) => typeof target[name] === 'function');
}

/** Has the listeners that are added from now on run in the context that `contextOf` says when one is added. Removing one by
 * the function that was added works. */
export function boundEmitter<T>(by: ContextManager, contextOf: () => Context, emitter: T): T {
  const target = emitter as any;
  const wrappers = new WeakMap<Function, Map<unknown, Function>>();
  for (const method of LISTENERS) {
    const original = target[method];
    target[method] = function (this: unknown, event: unknown, listener: (...args: any[]) => any): unknown {
      if (typeof listener !== 'function') return original.call(this, event, listener);
      let byEvent = wrappers.get(listener);
      if (byEvent === undefined) wrappers.set(listener, (byEvent = new Map()));
      let wrapper: any = byEvent.get(event);
      if (wrapper === undefined) {
        wrapper = boundFunction(by, contextOf(), listener);
        // What `listeners` and `off` know a wrapped listener by.
        wrapper.listener = listener;
        byEvent.set(event, wrapper);
      }
      // `once` calls `on` with a wrapper of its own: that one is bound already.
      return original.call(this, event, (listener as any).listener !== undefined ? listener : wrapper);
    };
  }
  for (const method of ['off', 'removeListener']) {
    const original = target[method];
    target[method] = function (this: unknown, event: unknown, listener: Function): unknown {
      return original.call(this, event, wrappers.get(listener)?.get(event) ?? listener);
    };
  }
  return emitter;
}
