/**
 * `trace`: a span for every call of a function, whatever kind of function it is.
 *
 * The function runs exactly once whatever happens in tracing. A generator's span lasts until it is exhausted or closed,
 * and is current only while the generator's own code runs; likewise that of a function that returns a generator.
 */

import { check, kindName, require_, snake } from './arguments.js';
import { within } from './context.js';
import { report } from './core.js';
import {
  SpanBlock,
  blockOf,
  checkFunction,
  enrich,
  fieldsOf,
  runBlock,
  untraced,
  type Fields,
  type SpanFields,
} from './enrich.js';
import { argumentsByName, parametersOf, type Parameter } from './parameters.js';
import { choose } from './registry.js';
import { checkSessionId } from './session-id.js';
import type { Span } from './span.js';
import type { Tracer } from './tracer.js';

/** What `trace` is told of a function. */
export interface TraceOptions extends SpanFields {
  tracer?: Tracer | undefined;
  userId?: string;
  /** The session that calls are in, in place of the one that holds. */
  sessionId?: string;
  sessionName?: string;
  source?: string;
  project?: string;
  /** Whether arguments and result are captured; default: as the tracer does. */
  capture?: boolean;
}

type AnyFunction = (this: any, ...args: any[]) => any;

/** A decorator of methods, in the standard's form and in TypeScript's older one. */
export type Decorator = <T>(target: T, context?: unknown, descriptor?: PropertyDescriptor) => any;

/** Records a span for every call of a function: `trace({ eventType, eventName }, fn)` or `trace(fn)` returns it wrapped,
 * `trace({ … })` alone is a decorator of methods.
 *
 * Works on functions, async functions, generators, async generators and methods. Arguments and result are captured
 * (`capture: false` turns that off), secrets replaced. What is thrown is recorded and goes on unchanged. Where there is no
 * tracer, the function runs as it is.
 *
 * @throws TypeError for an option of a wrong type or of an unknown name
 */
export function trace<F extends AnyFunction>(fn: F): F;
export function trace<F extends AnyFunction>(options: TraceOptions, fn: F): F;
export function trace(options: TraceOptions): Decorator;
export function trace(first: any, second?: any): any {
  if (typeof first === 'function') return wrapped(first, planOf({}));
  if (first === null || typeof first !== 'object' || Array.isArray(first)) {
    throw new TypeError(`options must be an object, not ${kindName(first)}`);
  }
  const plan = planOf(first);
  if (second !== undefined) {
    checkFunction('fn', second);
    return wrapped(second, plan);
  }
  return (target: any, context?: unknown, descriptor?: PropertyDescriptor) => {
    if (descriptor !== undefined) {
      checkFunction('a decorated member', descriptor.value);
      return { ...descriptor, value: wrapped(descriptor.value, plan) };
    }
    checkFunction('a decorated member', target);
    return wrapped(target, plan, (context as any)?.name);
  };
}

/** What `trace` was told, checked. */
interface Plan {
  readonly name: string | undefined;
  readonly fields: Fields;
  readonly tracer: Tracer | undefined;
  readonly sessionId: string | undefined;
  readonly capture: boolean | undefined;
}

const TEXTS = [
  'error',
  'event_id',
  'event_name',
  'event_type',
  'project',
  'session_id',
  'session_name',
  'source',
  'user_id',
];

function planOf(options: TraceOptions): Plan {
  const { fields, others } = fieldsOf(options, TEXTS);
  let { tracer, capture } = options;
  for (const [name, value] of Object.entries(others)) {
    switch (snake(name)) {
      case 'tracer':
      case 'tracer_instance':
        tracer = choose(value);
        break;
      case 'capture':
        check(name, value, 'boolean');
        capture = value as boolean;
        break;
      case 'span_config':
        check(name, value, 'object');
        fields['config'] = { ...(value as object), ...(fields['config'] as object | undefined) };
        break;
      default:
        throw new TypeError(`trace has no option ${name}`);
    }
  }
  const { event_name: name, session_id: sessionId, ...rest } = fields as any;
  if (sessionId !== undefined) checkSessionId('sessionId', sessionId);
  return { name, fields: rest, tracer, sessionId, capture: capture ?? undefined };
}

const GeneratorFunction = Object.getPrototypeOf(function* () {});
const AsyncGeneratorFunction = Object.getPrototypeOf(async function* () {});

function wrapped(fn: AnyFunction, plan: Plan, name?: unknown): AnyFunction {
  if (isClass(fn)) throw new TypeError('fn must be a function, not a class');
  const called = plan.name ?? (typeof name === 'string' && name !== '' ? name : fn.name || 'anonymous');
  const call = new Call(fn, called, plan);
  const kind = Object.getPrototypeOf(fn);
  let wrapper: AnyFunction;
  if (kind === GeneratorFunction || kind === AsyncGeneratorFunction) {
    wrapper = function (this: any, ...args: any[]): any {
      const generator = fn.apply(this, args);
      step(generator, undefined, () => call.begin(args));
      return generator;
    };
  } else {
    wrapper = function (this: any, ...args: any[]): any {
      if (new.target !== undefined) return Reflect.construct(fn, args, new.target === wrapper ? fn : new.target);
      const block = call.begin(args);
      if (block === undefined) return fn.apply(this, args);
      const seen = (result: unknown): boolean => {
        if (isGenerator(result) && step(result, block)) return true;
        if (call.captures(block)) call.output(block, result);
        return false;
      };
      return runBlock(block, () => fn.apply(this, args), seen);
    };
  }
  for (const key of Reflect.ownKeys(fn)) {
    if (key === 'prototype' && kind !== GeneratorFunction && kind !== AsyncGeneratorFunction)
      wrapper.prototype = fn.prototype;
    else if (key !== 'arguments' && key !== 'caller' && key !== 'prototype') {
      Object.defineProperty(wrapper, key, Object.getOwnPropertyDescriptor(fn, key)!);
    }
  }
  return wrapper;
}

function isClass(fn: Function): boolean {
  // A method may be called so.
  const prototype = Object.getOwnPropertyDescriptor(fn, 'prototype');
  return prototype?.writable === false && /^class\b/.test(Function.prototype.toString.call(fn));
}

/** Calls of one function. */
class Call {
  private parameters: readonly Parameter[] | undefined;

  constructor(
    private readonly fn: AnyFunction,
    private readonly name: string,
    private readonly plan: Plan,
  ) {}

  /** The block for a call; none if it is not to be traced. */
  begin(args: unknown[]): SpanBlock | undefined {
    const { plan } = this;
    try {
      const tracer = choose(plan.tracer);
      if (tracer === undefined) return undefined;
      let { fields } = plan;
      if (args.length > 0 && (plan.capture ?? tracer.core.captures)) {
        this.parameters ??= parametersOf(this.fn);
        const inputs = argumentsByName(this.parameters, args);
        const given = fields['inputs'];
        fields = { ...fields, inputs: isObject(given) ? Object.assign(inputs, given) : inputs };
      }
      return blockOf(tracer, this.name, fields, plan.sessionId);
    } catch {
      report('a call could not be traced');
      return undefined;
    }
  }

  captures(block: SpanBlock): boolean {
    return block.span.isRecording() && (this.plan.capture ?? block.span.core.captures);
  }

  /** Captures the result. */
  output(block: SpanBlock, result: unknown): void {
    if (result === undefined || result === null) return;
    enrich(block.span, { outputs: { result } });
  }
}

function isObject(value: unknown): value is object {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/** Prototypes of iterators that are nobody's own. */
const NOBODYS: ReadonlySet<unknown> = new Set([
  Object.prototype,
  Object.getPrototypeOf(Object.getPrototypeOf(GeneratorFunction.prototype)),
  Object.getPrototypeOf(Object.getPrototypeOf(AsyncGeneratorFunction.prototype)),
  null,
]);
const STEPS = ['next', 'return', 'throw'] as const;
/** What a generator has, also one that a compiler has made for older targets. */
const MEMBERS: ReadonlySet<unknown> = new Set([
  ...STEPS,
  'constructor',
  '_invoke',
  Symbol.iterator,
  Symbol.asyncIterator,
  Symbol.toStringTag,
]);

/** Whether a value is a generator, and nothing more than that: streams of libraries have methods of their own. */
function isGenerator(value: any): boolean {
  try {
    if (value === null || typeof value !== 'object' || STEPS.some((method) => typeof value[method] !== 'function'))
      return false;
    if (value[Symbol.iterator] === undefined && value[Symbol.asyncIterator] === undefined) return false;
    const tag = Object.prototype.toString.call(value);
    if (tag === '[object Generator]' || tag === '[object AsyncGenerator]') return true;
    const prototype = Object.getPrototypeOf(value);
    const members = [...Reflect.ownKeys(value), ...(NOBODYS.has(prototype) ? [] : Reflect.ownKeys(prototype))];
    return members.every((member) => MEMBERS.has(member));
  } catch {
    return false;
  }
}

/** Generators whose steps are traced already. */
const traced = new WeakSet<object>();

/** Has a generator step with its span current: in the block that has begun, or one that `begin` makes at the first step.
 * False if its steps cannot be seen; else the span lasts until it is exhausted, closed or has thrown. */
function step(generator: any, block: SpanBlock | undefined, begin?: () => SpanBlock | undefined): boolean {
  if (traced.has(generator) || !Object.isExtensible(generator)) return false;
  let items = 0;
  const fail = (thrown: unknown): void => {
    block?.fail(thrown);
    block = undefined;
  };
  const took = (result: IteratorResult<unknown>): IteratorResult<unknown> => {
    if (result?.done === true) {
      block?.span.put('honeyhive_outputs.items', items);
      block?.end();
      block = undefined;
    } else items++;
    return result;
  };
  for (const method of STEPS) {
    const original = generator[method];
    Object.defineProperty(generator, method, {
      configurable: true,
      writable: true,
      value: (...args: unknown[]): unknown => {
        if (method === 'next' && begin !== undefined) {
          block = begin();
          begin = undefined;
        }
        if (block === undefined) return original.apply(generator, args);
        let result: any;
        try {
          result = within(block.context, () => original.apply(generator, args));
        } catch (thrown) {
          fail(thrown);
          throw thrown;
        }
        if (typeof result?.then !== 'function') return took(result);
        return result.then(took, (thrown: unknown) => {
          fail(thrown);
          throw thrown;
        });
      },
    });
  }
  traced.add(generator);
  return true;
}

/** What `enrichSpanContext` is told. */
export interface SpanContextOptions extends SpanFields {
  eventName: string;
  sessionId?: string;
  source?: string;
  project?: string;
  tracer?: Tracer | undefined;
}

/** Runs `fn` with a span of this name and these fields that is current inside, and returns what it returns. The span is
 * `fn`'s argument, and ends when `fn` is done, also where that takes time. What is thrown is recorded and goes on
 * unchanged.
 *
 * @throws TypeError for an option of a wrong type or of an unknown name
 */
export function enrichSpanContext<R>(options: SpanContextOptions, fn: (span: Span) => R): R;
export function enrichSpanContext<R>(
  eventName: string,
  options: Omit<SpanContextOptions, 'eventName'>,
  fn: (span: Span) => R,
): R;
export function enrichSpanContext<R>(first: any, second: any, third?: any): R {
  const fn = third ?? second;
  const options = typeof first === 'string' ? { ...(third === undefined ? {} : second), eventName: first } : first;
  if (!isObject(options)) throw new TypeError(`options must be an object, not ${kindName(options)}`);
  require_('eventName', (options as any).eventName ?? (options as any).event_name, 'string');
  checkFunction('fn', fn);
  const plan = planOf(options as TraceOptions);
  const tracer = choose(plan.tracer);
  const block = tracer === undefined ? undefined : blockOf(tracer, plan.name!, plan.fields, plan.sessionId);
  return block === undefined ? untraced(fn as any) : runBlock(block, fn as any);
}
