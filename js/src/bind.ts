/** Context where it does not go by itself: iterators, streams, emitters and functions that others call; worker threads. */

import { bound, active, manager, within } from './context.js';
import { injectContextIntoCarrier } from './distributed.js';
import type { Context } from './otel-types.js';

/** A function, or an event emitter's listeners from now on, that run in a context (the current one unless given) whoever
 * calls them. Anything else is returned as it is. */
export function bind<T>(target: T, context: Context = active()): T {
  return bound(manager(), context, target);
}

/** An iterator, or async one, whose steps run in a context (the current one unless given), whoever asks for them: what a
 * generator does between two items does not depend on who consumes it. */
export function bindIterator<T extends object>(target: T, context: Context = active()): T {
  const source: any = target;
  if (typeof source?.next !== 'function') {
    const symbol = typeof source?.[Symbol.asyncIterator] === 'function' ? Symbol.asyncIterator : Symbol.iterator;
    if (typeof source?.[symbol] !== 'function') throw new TypeError('target must be an iterator or iterable');
    return {
      [symbol]: () =>
        bindIterator(
          within(context, () => source[symbol]()),
          context,
        ),
    } as T;
  }
  const wrapper = Object.create(Object.getPrototypeOf(source));
  for (const method of ['next', 'return', 'throw']) {
    if (typeof source[method] !== 'function') continue;
    Object.defineProperty(wrapper, method, {
      configurable: true,
      writable: true,
      value: (...args: unknown[]) => within(context, () => source[method](...args)),
    });
  }
  for (const symbol of [Symbol.iterator, Symbol.asyncIterator]) {
    if (typeof source[symbol] !== 'function') continue;
    Object.defineProperty(wrapper, symbol, { configurable: true, writable: true, value: () => wrapper });
  }
  return wrapper;
}

const STREAM_METHODS = ['_read', '_write', '_writev', '_final', '_flush', '_transform', '_destroy', '_construct'];

/** A stream of Node whose own functions and listeners run in a context (the current one unless given); or one of the web,
 * of which a readable one is wrapped: what its source does runs in the context. */
export function bindStream<T extends object>(stream: T, context: Context = active()): T {
  const target: any = stream;
  if (typeof target?.getReader === 'function' && typeof target.tee === 'function')
    return webStream(target, context) as T;
  if (typeof target?.on !== 'function') throw new TypeError('stream must be a stream');
  for (const method of STREAM_METHODS) {
    const original = target[method];
    if (typeof original !== 'function') continue;
    target[method] = function (this: unknown, ...args: unknown[]): unknown {
      return within(context, () => original.apply(this, args));
    };
  }
  if (typeof target[Symbol.asyncIterator] === 'function') {
    const original = target[Symbol.asyncIterator];
    target[Symbol.asyncIterator] = function (this: unknown): unknown {
      return bindIterator(original.call(this), context);
    };
  }
  return bound(manager(), context, stream);
}

function webStream(stream: ReadableStream, context: Context): ReadableStream {
  const reader = within(context, () => stream.getReader());
  return new ReadableStream(
    {
      pull: (controller) =>
        within(context, async () => {
          const { done, value } = await reader.read();
          if (done) controller.close();
          else controller.enqueue(value);
        }),
      cancel: (reason) => within(context, () => reader.cancel(reason)),
    },
    { highWaterMark: 0 },
  );
}

/** The current trace, session and baggage as a plain object, to be posted to a worker thread, or put into a message:
 * `withDistributedTraceContext` takes it there. */
export function contextCarrier(): Record<string, string> {
  return injectContextIntoCarrier({});
}
