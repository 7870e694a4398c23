/**
 * The parts of `@opentelemetry/api` that this package speaks, as structural types: the package works without that one, so
 * its declarations must not import from it. `test/types.ts` checks that both agree.
 */

/** An immutable set of values that travel with a request. */
export interface Context {
  getValue(key: symbol): unknown;
  setValue(key: symbol, value: unknown): Context;
  deleteValue(key: symbol): Context;
}

/** What sets the current context. `attach` is there in newer and in our own managers. */
export interface ContextManager {
  active(): Context;
  with<A extends unknown[], F extends (...args: A) => ReturnType<F>>(
    context: Context,
    fn: F,
    thisArg?: ThisParameterType<F>,
    ...args: A
  ): ReturnType<F>;
  bind<T>(context: Context, target: T): T;
  enable(): this;
  disable(): this;
}

/** The list of a `tracestate` header. */
export interface TraceState {
  set(key: string, value: string): TraceState;
  unset(key: string): TraceState;
  get(key: string): string | undefined;
  serialize(): string;
}

/** What of a span travels to other processes. */
export interface SpanContext {
  traceId: string;
  spanId: string;
  isRemote?: boolean;
  traceFlags: number;
  traceState?: TraceState;
}

/** The value of an attribute. */
export type AttributeValue =
  | string
  | number
  | boolean
  | Array<null | undefined | string>
  | Array<null | undefined | number>
  | Array<null | undefined | boolean>;

/** Attributes by key. */
export interface Attributes {
  [key: string]: AttributeValue | undefined;
}

/** A time: milliseconds since 1970, a `Date`, seconds and nanoseconds, or a reading of `performance.now()`. */
export type TimeInput = [number, number] | number | Date;

/** A reference to another span. */
export interface Link {
  context: SpanContext;
  attributes?: Attributes;
  droppedAttributesCount?: number;
}

/** 0 unset, 1 ok, 2 error. */
export interface SpanStatus {
  code: number;
  message?: string;
}

/** A thrown value, as `recordException` takes it. */
export type Exception =
  | { code: string | number; name?: string; message?: string; stack?: string }
  | { code?: string | number; message: string; name?: string; stack?: string }
  | { code?: string | number; message?: string; name: string; stack?: string }
  | string;

/** A span of the API. */
export interface ApiSpan {
  spanContext(): SpanContext;
  setAttribute(key: string, value: AttributeValue): this;
  setAttributes(attributes: Attributes): this;
  addEvent(name: string, attributesOrStartTime?: Attributes | TimeInput, startTime?: TimeInput): this;
  addLink(link: Link): this;
  addLinks(links: Link[]): this;
  setStatus(status: SpanStatus): this;
  updateName(name: string): this;
  end(endTime?: TimeInput): void;
  isRecording(): boolean;
  recordException(exception: Exception, time?: TimeInput): void;
}

/** How a span starts. */
export interface SpanOptions {
  /** 0 internal, 1 server, 2 client, 3 producer, 4 consumer. */
  kind?: number;
  attributes?: Attributes;
  links?: Link[];
  startTime?: TimeInput;
  root?: boolean;
}

/** An entry of baggage. */
export interface BaggageEntry {
  value: string;
  metadata?: { toString(): string };
}

/** Baggage of the API. */
export interface Baggage {
  getEntry(key: string): BaggageEntry | undefined;
  getAllEntries(): [string, BaggageEntry][];
  setEntry(key: string, entry: BaggageEntry): Baggage;
  removeEntry(key: string): Baggage;
  removeEntries(...keys: string[]): Baggage;
  clear(): Baggage;
}

/** Reads a carrier. */
export interface TextMapGetter<Carrier = any> {
  keys(carrier: Carrier): string[];
  get(carrier: Carrier, key: string): undefined | string | string[];
}

/** Writes a carrier. */
export interface TextMapSetter<Carrier = any> {
  set(carrier: Carrier, key: string, value: string): void;
}

/** The kinds of spans, in the API's numbering. */
export const INTERNAL = 0;
export const SERVER = 1;
export const CLIENT = 2;

/** Statuses, in the API's numbering. */
export const UNSET = 0;
export const OK = 1;
export const ERROR = 2;

/** Trace flags (W3C Trace Context level 2). */
export const SAMPLED = 1;
export const RANDOM = 2;
