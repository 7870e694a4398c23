/** Spans, as OpenTelemetry's API has them, and as those read them who know its SDK. */

import { bytesOf, type Blob } from './bytes.js';
import { Anchor, Moment, hrTimeOf, momentOf } from './clock.js';
import { type Core, type InstrumentationScope, report } from './core.js';
import { partsOf, partsOfPrimitive } from './exceptions.js';
import { captured, exchange } from './exchange.js';
import { forgetStart, handOver, recordStart, type Mailing } from './handover.js';
import {
  ERROR,
  OK,
  UNSET,
  type ApiSpan,
  type AttributeValue,
  type Attributes,
  type Exception,
  type Link,
  type SpanContext,
  type SpanStatus,
  type TimeInput,
  type TraceState,
} from './otel-types.js';
import { aroundOf, lasting } from './parent.js';
import { BUCKETS, OP_FLATTEN, OP_ROUTING } from './protocol.js';
import { CLOCK_FREEZES, reading } from './runtime.js';
import type { Scope } from './scope.js';
import { NO_STATE, OwnSpanContext, copied, stateText } from './span-context.js';
import { TreeReader } from './tree.js';

/** In the list of entries, in place of a key: what an error says. */
export const ERROR_TEXT = -1;
/** In place of a value: a tree of what was given when it was given. */
export class Captured {
  constructor(readonly tree: Blob) {}

  value(): unknown {
    return new TreeReader(bytesOf(this.tree)).value();
  }
}

/** An event of a span, with its attributes as keys and values in turn. */
export interface EventParts {
  readonly name: string;
  readonly base: number;
  readonly offset: number;
  readonly attributes: readonly unknown[];
  readonly dropped: number;
}

/** A link of a span, likewise. */
export interface LinkParts {
  readonly context: SpanContext;
  readonly attributes: readonly unknown[];
  readonly dropped: number;
}

const NOTHING: readonly unknown[] = [];
const NO_IDS: readonly string[] = [];
/** So many ids of what is around a span are known. */
const ANCESTORS = 10;
/** Entries (keys and values) from which on keys that were set again are looked for. */
const COMPACT_FROM = 512;

/** A span of a tracebaton tracer: one that is recorded, or one that only has a context. */
export class Span implements ApiSpan {
  /** What it is called. */
  name: string;
  /** 0 internal, 1 server, 2 client, 3 producer, 4 consumer. */
  readonly kind: number;
  /** Attributes that had no place. */
  droppedAttributesCount = 0;
  /** Events that had no place. */
  droppedEventsCount = 0;
  /** Links that had no place. */
  droppedLinksCount = 0;

  /** @internal */ readonly core: Core;
  /** @internal */ readonly instrumentation: number;
  /** @internal */ readonly library: InstrumentationScope;
  /** @internal */ readonly traceId: string;
  /** @internal */ readonly spanId: string;
  /** @internal */ readonly flags: number;
  /** @internal */ readonly state: TraceState;
  /** @internal */ readonly parentId: string | undefined;
  /** @internal */ readonly parentIsRemote: boolean;
  /** What was current around this span when it began: of each other tracer the innermost span, and last a span of
   * somebody else's, if there is one. Ended spans are there by their ids only, or a program whose every step begins the
   * next one would keep them all. @internal */
  around: readonly unknown[];
  /** The ids of the spans around it, whosever of ours they are: the nearest ones, and the outermost. @internal */
  readonly ancestors: readonly string[];
  /** @internal */ readonly scope: Scope | undefined;
  /** @internal */ readonly anchor: Anchor;
  /** When it began, where a program said so. @internal */
  readonly givenStart: Moment | undefined;
  /** Else the milliseconds on the anchor's clock. @internal */
  readonly startOffset: number;
  /** @internal */ givenEnd: Moment | undefined = undefined;
  /** @internal */ endOffset = 0;
  /** @internal */ statusCode = UNSET;
  /** @internal */ statusMessage: string | undefined = undefined;
  /** @internal */ eventList: EventParts[] | undefined = undefined;
  /** @internal */ linkList: LinkParts[] | undefined = undefined;
  /** @internal */ notToHoneyHive = false;
  /** @internal */ startToken = 0;
  /** The request's records, where each request has its own. @internal */
  mailing: Mailing | undefined = undefined;
  private recording: boolean;
  private isEnded = false;
  /** Keys and values in turn, in the order in which they were set; a number of a bucket in place of a key. */
  private entries: unknown[] = [];
  private compactAt = COMPACT_FROM;
  /** The attributes as an object, from when somebody asked for it: then they live there. */
  private object: Record<string, any> | undefined = undefined;
  private routing: Record<string, any> | undefined = undefined;
  /** `ancestors` of the spans in it. */
  private lineage: readonly string[] | undefined = undefined;
  private stateAsText: string | undefined = undefined;
  private context: SpanContext | undefined = undefined;
  private recorded: unknown = undefined;

  /** @internal */
  constructor(
    core: Core,
    instrumentation: number,
    library: InstrumentationScope,
    name: string,
    kind: number,
    traceId: string,
    spanId: string,
    flags: number,
    state: TraceState,
    parentId: string | undefined,
    parentIsRemote: boolean,
    current: unknown,
    scope: Scope | undefined,
    anchor: Anchor,
    isFirst: boolean,
    start: Moment | undefined,
    recording: boolean,
  ) {
    this.core = core;
    this.instrumentation = instrumentation;
    this.library = library;
    this.name = name;
    this.kind = kind;
    this.traceId = traceId;
    this.spanId = spanId;
    this.flags = flags;
    this.state = state;
    this.parentId = parentId;
    this.parentIsRemote = parentIsRemote;
    this.around = aroundOf(current, core);
    this.ancestors = current instanceof Span ? current.lineageOf() : NO_IDS;
    this.scope = scope;
    this.anchor = anchor;
    this.givenStart = start;
    this.startOffset = start === undefined ? (isFirst ? anchor.begun : reading()) : start.offset;
    this.recording = recording;
  }

  /** What of the span travels. */
  spanContext(): SpanContext {
    return (this.context ??= new OwnSpanContext(this.traceId, this.spanId, this.flags, this.state, false));
  }

  /** Whether attributes and events are still taken. */
  isRecording(): boolean {
    return this.recording;
  }

  /** Sets an attribute; `null` and `undefined` are not kept. */
  setAttribute(key: string, value: AttributeValue | null | undefined): this {
    this.put(key, value);
    return this;
  }

  /** Sets several attributes. */
  setAttributes(attributes: Attributes): this {
    if (this.recording && attributes !== null && typeof attributes === 'object') {
      for (const key in attributes) if (Object.hasOwn(attributes, key)) this.put(key, attributes[key]);
    }
    return this;
  }

  /** Adds an event; its time is now unless given. */
  addEvent(name: string, attributesOrTime?: Attributes | TimeInput, time?: TimeInput): this {
    if (!this.recording) return this;
    let attributes: Attributes | undefined;
    if (isTime(attributesOrTime)) time = attributesOrTime;
    else attributes = attributesOrTime;
    if ((this.eventList ??= []).length >= this.core.limits.events) {
      this.droppedEventsCount++;
      return this;
    }
    const at = momentOf(time);
    const base = at === undefined ? this.anchor.origin : at.base;
    const offset = at === undefined ? reading() : at.offset;
    this.eventList.push({ name: String(name), base, offset, ...this.collected(attributes) });
    return this;
  }

  /** Adds a link to another span. */
  addLink(link: Link): this {
    if (!this.recording || link?.context === null || typeof link?.context !== 'object') return this;
    if ((this.linkList ??= []).length >= this.core.limits.links) this.droppedLinksCount++;
    else {
      const context = copied(link.context);
      if (context === undefined) this.droppedLinksCount++;
      else this.linkList.push({ context, ...this.collected(link.attributes) });
    }
    return this;
  }

  /** Adds links to other spans. */
  addLinks(links: Link[]): this {
    for (const link of links) this.addLink(link);
    return this;
  }

  /** Sets the status: OK is final, unset is ignored, a message goes with an error only. */
  setStatus(status: SpanStatus): this {
    const code = status?.code;
    if (!this.recording || this.statusCode === OK || (code !== OK && code !== ERROR)) return this;
    this.statusCode = code;
    this.statusMessage = code === ERROR && typeof status.message === 'string' ? status.message : undefined;
    return this;
  }

  /** Calls it something else. */
  updateName(name: string): this {
    if (this.recording) this.name = String(name);
    return this;
  }

  /** Ends the span and hands it to its exporters. A second call changes nothing. */
  end(endTime?: TimeInput): void {
    if (this.isEnded) return;
    this.isEnded = true;
    this.setEnd(endTime);
    this.around = lasting(this.around);
    if (!this.recording) return;
    const { core } = this;
    if (CLOCK_FREEZES && this.endOffset - this.startOffset < 1 && this.givenEnd === undefined)
      this.put('tracebaton.clock', 'frozen');
    if (core.processors.length > 0) core.onEnding(this);
    this.recording = false;
    if (core.processors.length > 0) core.onEnd(this);
    try {
      // Recorded but not sampled: for processors only, where a sampler of OpenTelemetry's SDK says so.
      if ((this.flags & 1) === 1) {
        this.prepare();
        handOver(this);
      } else forgetStart(this);
    } catch {
      report('a span could not be handed over');
    }
    // Contexts may last much longer. Processors read spans later.
    if (core.processors.length === 0) this.release();
  }

  /** Adds an event that describes an exception; the status stays as it is. */
  recordException(exception: Exception, time?: TimeInput): void {
    if (!this.recording || exception === undefined || exception === null) return;
    const attributes: Attributes = {};
    if (typeof exception === 'string') {
      attributes['exception.message'] = exception;
    } else {
      const { type, message, stack } = partsOf(exception);
      if (type !== undefined) attributes['exception.type'] = type;
      if (message !== undefined) attributes['exception.message'] = message;
      if (stack !== undefined) attributes['exception.stacktrace'] = stack;
    }
    this.addEvent('exception', attributes, time);
    this.recorded = exception;
  }

  /** A thrown value leaves the span's block: records it unless that was done, and sets status and error. */
  fail(thrown: unknown): void {
    if (!this.recording) return;
    const isObject = typeof thrown === 'object' && thrown !== null;
    const { type, message } = isObject ? partsOf(thrown) : partsOfPrimitive(thrown);
    const text = message ?? '';
    if (this.recorded === undefined || this.recorded !== thrown) {
      this.recordException(isObject ? (thrown as Exception) : { name: type ?? 'Error', message: text });
      this.recorded = thrown;
    }
    this.enter(ERROR_TEXT, text || type || 'Error');
    this.setStatus({ code: ERROR, message: type === undefined ? text : `${type}: ${text}` });
  }

  /** Puts a captured value into a bucket (an index of `BUCKETS`); whether anything was put. @internal */
  enrich(bucket: number, value: unknown): boolean {
    if (!this.recording || value === undefined || value === null) return false;
    this.enter(bucket, new Captured(captured(value, this.core.caps)));
    return true;
  }

  /** Sets an attribute; whether it is there now. @internal */
  put(key: unknown, value: unknown): boolean {
    if (!this.recording) return false;
    if (typeof key !== 'string' || key === '') {
      this.droppedAttributesCount++;
      return false;
    }
    const kept =
      typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
        ? value
        : keptOf(value, this.core);
    if (kept === undefined) return false;
    if (this.object === undefined) {
      this.entries.push(key, kept);
      if (this.entries.length > this.compactAt) this.compact();
    } else {
      put(this.object, key, kept instanceof Captured ? kept.value() : kept);
    }
    return true;
  }

  /** The value of an attribute that was set. @internal */
  attribute(key: string): unknown {
    if (this.object !== undefined) return this.object[key];
    for (let index = this.entries.length - 2; index >= 0; index -= 2)
      if (this.entries[index] === key) return this.entries[index + 1];
    return undefined;
  }

  /** Records in the spool that the span has begun. @internal */
  recordStart(): void {
    if (!this.recording || (this.flags & 1) !== 1) return;
    this.prepare();
    recordStart(this);
  }

  /** The time is over, or this is it. @internal */
  setEnd(endTime: TimeInput | undefined): void {
    this.givenEnd = endTime === undefined ? undefined : momentOf(endTime);
    this.endOffset = this.givenEnd === undefined ? reading() : this.givenEnd.offset;
    // Both are on the anchor's clock, which does not go back; times that a program gave are its own.
    if (this.givenStart === undefined && this.givenEnd === undefined) return;
    if (this.endBase + this.endOffset < this.startBase + this.startOffset) {
      this.givenEnd = new Moment(this.startBase, this.startOffset);
      this.endOffset = this.startOffset;
    }
  }

  /** For a record of a span that goes on: it ends where it begins. @internal */
  startsAsEnd(): void {
    this.givenEnd = this.givenStart;
    this.endOffset = this.startOffset;
  }

  /** Milliseconds that are to be added to `startOffset`. @internal */
  get startBase(): number {
    return this.givenStart === undefined ? this.anchor.origin : this.givenStart.base;
  }

  /** Milliseconds that are to be added to `endOffset`. @internal */
  get endBase(): number {
    return this.givenEnd === undefined ? this.anchor.origin : this.givenEnd.base;
  }

  /** Ends the span when it began, for all exporters but HoneyHive's; whether it was recorded. @internal */
  endElsewhere(): boolean {
    const was = this.recording;
    this.notToHoneyHive = true;
    this.end(hrTimeOf(this.startBase, this.startOffset));
    return was;
  }

  /** Keys and values in turn, as they are recorded. @internal */
  entriesToWrite(): readonly unknown[] {
    return this.entries;
  }

  /** What is recorded of the trace state. @internal */
  stateToWrite(): string {
    return this.stateAsText ?? '';
  }

  /** What a start and an end of a span have in common: everything that may run a program's code is done before the first
   * byte is written, since that code may record spans itself. */
  private prepare(): void {
    if (this.state !== NO_STATE) this.stateAsText = stateText(this.state);
    if (this.object !== undefined) this.entries = this.entriesOfObject(this.object);
  }

  /** Nobody reads the span any more, and it has been written. */
  private release(): void {
    this.entries = [];
    this.eventList = undefined;
    this.linkList = undefined;
    this.recorded = undefined;
  }

  private entriesOfObject(object: Record<string, any>): unknown[] {
    const routing = this.routing!;
    const entries: unknown[] = [];
    for (const key of Object.keys(object)) {
      const value = object[key];
      // Those that route the span are Rust's to write, unless somebody wrote others.
      if (routing[key] === value && key in routing) continue;
      const kept = keptOf(value, this.core);
      if (kept !== undefined) entries.push(key, kept);
    }
    return entries;
  }

  /** `ancestors` of a span that begins in this one. @internal */
  lineageOf(): readonly string[] {
    if (this.lineage === undefined) {
      const { ancestors, parentId } = this;
      const ids = [this.spanId, ...(ancestors.length > 0 || parentId === undefined ? ancestors : [parentId])];
      if (ids.length > ANCESTORS) ids.splice(ANCESTORS - 3, 1);
      this.lineage = ids;
    }
    return this.lineage;
  }

  /** What is left of the span for those that begin in its context after its end. @internal */
  shade(): Span {
    const { core, instrumentation, library, name, kind, traceId, spanId, flags, state, parentId, scope, anchor } = this;
    const shade = new Span(
      core,
      instrumentation,
      library,
      name,
      kind,
      traceId,
      spanId,
      flags,
      state,
      parentId,
      this.parentIsRemote,
      undefined,
      scope,
      anchor,
      true,
      undefined,
      false,
    );
    shade.mailing = this.mailing;
    shade.isEnded = true;
    return shade;
  }

  private enter(key: number, value: unknown): void {
    if (this.object === undefined) this.entries.push(key, value);
    else Object.assign(this.object, flat(this.core, key, value));
  }

  /** Drops values that later ones replace, so that one key set for ever does not grow the span for ever. */
  private compact(): void {
    const last = new Map<unknown, number>();
    const { entries } = this;
    for (let index = 0; index < entries.length; index += 2)
      if (typeof entries[index] === 'string') last.set(entries[index], index);
    const kept: unknown[] = [];
    let left = 2 * this.core.limits.attributes;
    const placed = new Set<unknown>();
    for (let index = 0; index < entries.length; index += 2) {
      const key = entries[index];
      if (typeof key !== 'string') {
        kept.push(key, entries[index + 1]);
      } else if (!placed.has(key)) {
        placed.add(key);
        if (left-- > 0) kept.push(key, entries[last.get(key)! + 1]);
        else this.droppedAttributesCount++;
      }
    }
    this.entries = kept;
    this.compactAt = Math.max(COMPACT_FROM, 2 * kept.length);
  }

  private collected(attributes: Attributes | undefined): { attributes: readonly unknown[]; dropped: number } {
    if (attributes === undefined || attributes === null || typeof attributes !== 'object')
      return { attributes: NOTHING, dropped: 0 };
    const list: unknown[] = [];
    let dropped = 0;
    for (const key of Object.keys(attributes)) {
      const value = keptOf(attributes[key], this.core);
      if (value === undefined) continue;
      if (list.length >= 2 * this.core.limits.attributes) dropped++;
      else list.push(key, value);
    }
    return { attributes: list, dropped };
  }

  /** The attributes so far, those that route the span to its session included. What is changed in this object is
   * changed in the span. */
  get attributes(): Record<string, any> {
    if (this.object === undefined) {
      this.routing = routingOf(this.core, this.scope);
      const object: Record<string, any> = {};
      const { entries } = this;
      for (let index = 0; index < entries.length; index += 2) {
        const [key, value] = [entries[index], entries[index + 1]];
        if (typeof key === 'string') put(object, key, value instanceof Captured ? value.value() : value);
        else for (const [name, part] of Object.entries(flat(this.core, key as number, value))) put(object, name, part);
      }
      for (const [key, value] of Object.entries(this.routing)) if (!Object.hasOwn(object, key)) put(object, key, value);
      this.object = object;
      this.entries = [];
    }
    return this.object;
  }

  set attributes(attributes: Record<string, any>) {
    void this.attributes;
    if (attributes !== null && typeof attributes === 'object') this.object = attributes;
  }

  /** The status so far. */
  get status(): SpanStatus {
    return this.statusMessage === undefined
      ? { code: this.statusCode }
      : { code: this.statusCode, message: this.statusMessage };
  }

  /** The events so far. */
  get events(): { name: string; time: [number, number]; attributes: Attributes; droppedAttributesCount: number }[] {
    return (this.eventList ?? []).map((event) => ({
      name: event.name,
      time: hrTimeOf(event.base, event.offset),
      attributes: objectOf(event.attributes),
      droppedAttributesCount: event.dropped,
    }));
  }

  /** The links so far. */
  get links(): Link[] {
    return (this.linkList ?? []).map((link) => ({
      context: link.context,
      attributes: objectOf(link.attributes),
      droppedAttributesCount: link.dropped,
    }));
  }

  /** When it began: seconds and nanoseconds since 1970. */
  get startTime(): [number, number] {
    return hrTimeOf(this.startBase, this.startOffset);
  }

  /** When it ended, likewise; zeros before. */
  get endTime(): [number, number] {
    return this.isEnded ? hrTimeOf(this.endBase, this.endOffset) : [0, 0];
  }

  /** How long it took; zeros before it ended. */
  get duration(): [number, number] {
    return this.isEnded
      ? hrTimeOf(Math.max(this.endBase - this.startBase + (this.endOffset - this.startOffset), 0), 0)
      : [0, 0];
  }

  /** Whether it has ended. */
  get ended(): boolean {
    return this.isEnded;
  }

  /** For `JSON.stringify`: what it is, without what it holds. */
  toJSON(): Record<string, unknown> {
    const { name, kind, traceId, spanId, parentSpanId, status, startTime, endTime } = this;
    return { name, kind, traceId, spanId, parentSpanId, status, startTime, endTime };
  }

  /** What the process says of itself. */
  get resource(): { attributes: Record<string, any> } {
    return { attributes: this.core.told.resource };
  }

  /** The library that made the span. */
  get instrumentationScope(): InstrumentationScope {
    return this.library;
  }

  /** The same under its older name. */
  get instrumentationLibrary(): InstrumentationScope {
    return this.library;
  }

  /** The parent's id; undefined for a root. */
  get parentSpanId(): string | undefined {
    return this.parentId;
  }

  /** The parent's context; undefined for a root. */
  get parentSpanContext(): SpanContext | undefined {
    if (this.parentId === undefined) return undefined;
    return new OwnSpanContext(this.traceId, this.parentId, this.flags, this.state, this.parentIsRemote);
  }
}

/** What is kept of an attribute's value; undefined if nothing is. */
function keptOf(value: unknown, core: Core): unknown {
  switch (typeof value) {
    case 'string':
    case 'number':
    case 'boolean':
      return value;
    case 'undefined':
      return undefined;
    default:
      if (value === null) return undefined;
      if (Array.isArray(value) && value.length <= core.caps.nodes && value.every(isScalar)) return value.slice();
      return value instanceof Captured ? value : new Captured(captured(value, core.caps));
  }
}

function isScalar(value: unknown): boolean {
  return (
    value === null ||
    (typeof value !== 'object' && typeof value !== 'function' && typeof value !== 'symbol' && typeof value !== 'bigint')
  );
}

/** Sets a field whatever its name. */
function put(object: Record<string, any>, key: string, value: unknown): void {
  if (key === '__proto__')
    Object.defineProperty(object, key, { value, enumerable: true, writable: true, configurable: true });
  else object[key] = value;
}

function objectOf(list: readonly unknown[]): Attributes {
  const object: Record<string, any> = {};
  for (let index = 0; index < list.length; index += 2) {
    const value = list[index + 1];
    put(object, list[index] as string, value instanceof Captured ? value.value() : value);
  }
  return object;
}

/** The attributes that an entry becomes which is none itself. */
function flat(core: Core, key: number, value: unknown): Record<string, any> {
  if (key === ERROR_TEXT) return { honeyhive_error: value };
  const to = exchange();
  const request = to.begin(1);
  request.octets((value as Captured).tree);
  request.view.setUint32(0, key, true);
  to.call(OP_FLATTEN, core.handle);
  return new TreeReader(to.memory.bytes).value();
}

function routingOf(core: Core, scope: Scope | undefined): Record<string, any> {
  const to = exchange();
  to.begin(0).octets(scope === undefined ? '' : scope.blob);
  to.call(OP_ROUTING, core.handle);
  return new TreeReader(to.memory.bytes).value();
}

function isTime(value: unknown): value is TimeInput {
  return (
    typeof value === 'number' ||
    value instanceof Date ||
    (Array.isArray(value) && value.length === 2 && typeof value[0] === 'number')
  );
}

/** The index of a bucket by its name. */
export const BUCKET_INDEX: ReadonlyMap<string, number> = new Map(BUCKETS.map((name, index) => [name, index]));
