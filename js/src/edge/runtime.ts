/** What differs between runtimes: this is for Workers, edge functions and browsers. See `../runtime.ts`. */

import type { Context } from '../otel-types.js';
import type { Storage } from '../runtime.js';

export type { Storage } from '../runtime.js';

const here: any = globalThis;

/** The current context where there is no `AsyncLocalStorage`: that of the innermost block whose synchronous part runs.
 * What comes after an `await` has none, and never another request's: `bind` carries it along. */
class Stack implements Storage {
  private current: Context | undefined = undefined;

  getStore(): Context | undefined {
    return this.current;
  }

  run<A extends unknown[], R>(context: Context, fn: (...args: A) => R, ...args: A): R {
    const outer = this.current;
    this.current = context;
    try {
      return fn(...args);
    } finally {
      this.current = outer;
    }
  }

  enterWith(): void {
    throw new Error('there is no AsyncLocalStorage');
  }
}

function made(): Storage {
  try {
    const Local = here.AsyncLocalStorage ?? here.process?.getBuiltinModule?.('node:async_hooks')?.AsyncLocalStorage;
    if (Local !== undefined) return new Local();
  } catch {
    // A runtime without it.
  }
  return new Stack();
}

export let storage: Storage = made();

/** Keeps the current context in an `AsyncLocalStorage`, where a runtime has one that cannot be found: with Cloudflare's
 * flag `nodejs_als` it is there for whoever imports it. To be called before anything is traced. */
export function useAsyncLocalStorage(Local: new () => any): void {
  storage = new Local();
}

/** The origin of the page that sends, in browsers. */
export const PAGE_ORIGIN: string | undefined = here.window === here && here.document ? here.location?.origin : undefined;

const { performance } = globalThis;

/** In a page everything is the same user's. */
export const PER_REQUEST = PAGE_ORIGIN === undefined;

export const CLOCK_FREEZES = PER_REQUEST;

export const UNNAMED_SERVICE = PER_REQUEST ? 'unknown_service:edge' : 'unknown_service:browser';

let zero = 0;
let last = 0;
let sequence = 0;

export function clockOrigin(): number {
  reading();
  return zero;
}

/** A clock that stands still counts on in nanoseconds, so that what came later is later. */
export function reading(): number {
  const now = PER_REQUEST ? Date.now() : performance.timeOrigin + performance.now();
  // Outside of requests there is no time: it begins with the first.
  if (zero === 0) zero = now;
  if (now > last) {
    last = now;
    sequence = 0;
  } else {
    sequence++;
  }
  return last - zero + sequence / 1e6;
}

export function variables(): Record<string, string | undefined> {
  return here.process?.env ?? {};
}

export function programName(): string | undefined {
  return undefined;
}

/** The OpenTelemetry API is not looked for here: `tracer.provider` is for those who hand it on. */
export function requireApi(): any {
  return undefined;
}

/** Nothing is known of that. */
export function execution(): object | undefined {
  return undefined;
}

/** Whatever serves here calls each request in a context of its own. */
export function onRequestStart(_listener: () => void): void {}

/** There are no objects of Node's. */
export function standInFor(_value: unknown): object | string | undefined {
  return undefined;
}
