/** `tracer.provider`: OpenTelemetry's provider and tracer interfaces, for instrumentors. */

import { kindName } from './arguments.js';
import { Anchor, momentOf } from './clock.js';
import { BAGGAGE_KEY, REQUEST_KEY, SPAN_KEY, SUPPRESS_KEY, active, withinCall } from './context.js';
import { type Core, type InstrumentationScope, type SpanProcessor, report } from './core.js';
import { exchange } from './exchange.js';
import { deliverHere, submitChunk, type Mailing } from './handover.js';
import { newSpanId, newTraceId } from './ids.js';
import type { ApiSpan, Attributes, Baggage, Context, SpanContext, SpanOptions, TraceState } from './otel-types.js';
import { parentOf, unwrapped } from './parent.js';
import { START_PARENT_REMOTE, START_RECORDS } from './protocol.js';
import { forget } from './registry.js';
import { PER_REQUEST } from './runtime.js';
import { scopeOf, withOwnSession } from './scope.js';
import { NO_STATE, isValid } from './span-context.js';
import { Span } from './span.js';

const SAMPLED = 1;
const RANDOM = 2;
const NO_OPTIONS: SpanOptions = {};

/** OpenTelemetry's `Tracer`. */
export class OtelTracer {
  private readonly core: Core;
  private readonly library: InstrumentationScope;
  private readonly instrumentation: number;

  /** @internal */
  constructor(core: Core, library: InstrumentationScope) {
    this.core = core;
    this.library = library;
    this.instrumentation = core.enabled ? core.instrumentation(library) : 0;
  }

  /** Starts a span whose parent is the current span of `context`, without making it current. */
  startSpan(name: string, options: SpanOptions = NO_OPTIONS, context: Context = active()): Span {
    const span = this.begun(name, options ?? NO_OPTIONS, context);
    if (this.core.recordsStarts) span.recordStart();
    return span;
  }

  /** Starts a span whose start is recorded later, or never. @internal */
  begun(name: string, options: SpanOptions, context: Context): Span {
    const { core } = this;
    const from = options.root === true ? context.deleteValue(SPAN_KEY) : context;
    const parent = parentOf(from, core);
    let scope = scopeOf(from) ?? (parent instanceof Span ? parent.scope : undefined);
    if (core.sessionless && scope?.view(core.handle).session === undefined)
      scope = parent instanceof Span ? parent.scope : scopeOf(withOwnSession(from, core));
    const kind = options.kind;
    const start = options.startTime === undefined ? undefined : momentOf(options.startTime);

    let traceId: string;
    let parentId: string | undefined;
    let parentIsRemote = false;
    let parentFlags = -1;
    let state: TraceState = NO_STATE;
    let anchor: Anchor;
    if (parent instanceof Span) {
      traceId = parent.traceId;
      parentId = parent.spanId;
      parentFlags = parent.flags;
      state = parent.state;
      anchor = parent.anchor;
    } else {
      anchor = new Anchor();
      if (parent === undefined) {
        traceId = newTraceId();
      } else {
        traceId = parent.traceId;
        parentId = parent.spanId;
        parentFlags = parent.traceFlags;
        parentIsRemote = parent.isRemote === true;
        state = parent.traceState ?? NO_STATE;
      }
    }

    let flags: number;
    let records: boolean;
    let spanId: string | undefined;
    let more: Attributes | undefined;
    const decision = core.sampler !== undefined ? ASK_SAMPLER : this.decision(parentFlags, parentIsRemote);
    if (decision >= 0) {
      records = decision === 1;
      flags = flagsOf(core, parentFlags, records);
      if (!records) core.countUnsampled();
    } else if (decision === ASK_SAMPLER) {
      const decided = this.asked(from, traceId, name, options);
      records = decided.decision >= 1;
      flags = flagsOf(core, parentFlags, decided.decision === 2);
      more = decided.attributes;
      state = decided.traceState ?? state;
      if (!records) core.countUnsampled();
    } else {
      // It depends on the trace id, which a root gets there.
      const to = exchange();
      to.begin(0).octets(traceId);
      const answer = to.backend.start(
        core.handle,
        parentFlags < 0 ? -1 : parentFlags | (parentIsRemote ? START_PARENT_REMOTE : 0),
      );
      if (parentFlags < 0) traceId = to.octets(0, 32);
      spanId = to.octets(32, 48);
      flags = answer & 0xff;
      records = (answer & START_RECORDS) !== 0;
    }
    if (from.getValue(SUPPRESS_KEY) === true) {
      records = false;
      flags &= ~SAMPLED;
    }

    const span = new Span(
      core,
      this.instrumentation,
      this.library,
      typeof name === 'string' ? name : String(name),
      kind === undefined ? 0 : kindOf(kind),
      traceId,
      spanId ?? newSpanId(),
      flags,
      state,
      parentId,
      parentIsRemote,
      unwrapped(context.getValue(SPAN_KEY)),
      scope,
      anchor,
      !(parent instanceof Span),
      start,
      records,
    );
    if (!records) return span;

    if (PER_REQUEST)
      span.mailing =
        (from.getValue(REQUEST_KEY) as Mailing | undefined) ?? (parent instanceof Span ? parent.mailing : undefined);
    core.useSession(scope, from);
    if (core.told.baggage_attributes.length > 0) takeBaggage(span, from);
    if (options.attributes !== undefined && options.attributes !== null) span.setAttributes(options.attributes);
    if (more !== undefined) span.setAttributes(more);
    if (options.links !== undefined && options.links !== null) span.addLinks(options.links);
    if (core.processors.length > 0) core.onStart(span, from);
    return span;
  }

  /** Runs `fn` with a new span that is the current one inside. It is `fn` that ends it. */
  startActiveSpan<F extends (span: Span) => unknown>(name: string, fn: F): ReturnType<F>;
  startActiveSpan<F extends (span: Span) => unknown>(name: string, options: SpanOptions, fn: F): ReturnType<F>;
  startActiveSpan<F extends (span: Span) => unknown>(
    name: string,
    options: SpanOptions,
    context: Context,
    fn: F,
  ): ReturnType<F>;
  startActiveSpan(name: string, second: any, third?: any, fourth?: any): any {
    let [options, base, fn] = [NO_OPTIONS, active(), second];
    if (fourth !== undefined) [options, base, fn] = [second, third ?? base, fourth];
    else if (third !== undefined) [options, fn] = [second, third];
    const span = this.startSpan(name, options, base);
    return withinCall(base.setValue(SPAN_KEY, span), fn, span);
  }

  /** 1 to record, 0 not to, -1 where it depends on the trace id. */
  private decision(parentFlags: number, parentIsRemote: boolean): number {
    const { core } = this;
    if (!core.enabled) return 0;
    return core.decisions[parentFlags < 0 ? 0 : (parentIsRemote ? 3 : 1) + ((parentFlags & SAMPLED) === 1 ? 0 : 1)];
  }

  private asked(context: Context, traceId: string, name: string, options: SpanOptions): any {
    try {
      const { kind = 0, attributes = {}, links = [] } = options;
      return this.core.sampler!.shouldSample(context, traceId, name, kind, attributes, links) ?? NOT_ASKED;
    } catch {
      report('a sampler threw; spans are recorded');
      return NOT_ASKED;
    }
  }
}

const NOT_ASKED = { decision: 2 };
/** In place of a decision: a sampler of OpenTelemetry's SDK has to be asked. */
const ASK_SAMPLER = -2;

/** The flags of a new span: whether its trace is sampled, and whether its ids are random, which a parent knows (TP10). */
function flagsOf(core: Core, parentFlags: number, sampled: boolean): number {
  const randomness = parentFlags < 0 ? (core.told.random_flag ? RANDOM : 0) : parentFlags & RANDOM;
  return randomness | (sampled ? SAMPLED : 0);
}

function kindOf(kind: unknown): number {
  return typeof kind === 'number' && kind >= 0 && kind <= 4 ? kind : 0;
}

/** Sets the attributes that the policy makes of baggage. */
function takeBaggage(span: Span, context: Context): void {
  const baggage = context.getValue(BAGGAGE_KEY) as Baggage | undefined;
  if (baggage === undefined) return;
  for (const key of span.core.told.baggage_attributes) {
    const entry = baggage.getEntry(key);
    if (entry !== undefined) span.put(key, entry.value);
  }
}

/** OpenTelemetry's `TracerProvider` over one tracebaton tracer. */
export class TracerProvider {
  private readonly core: Core;
  private readonly tracers = new Map<string, OtelTracer>();

  /** @internal */
  constructor(core: Core) {
    this.core = core;
  }

  /** The tracer of an instrumenting library: the same one for the same arguments. */
  getTracer(name: string, version?: string, options?: { schemaUrl?: string; attributes?: Attributes }): OtelTracer {
    const library: InstrumentationScope = {
      name: String(name ?? ''),
      version,
      schemaUrl: options?.schemaUrl,
      attributes: options?.attributes,
    };
    let key: string;
    try {
      key = JSON.stringify([library.name, version, library.schemaUrl, options?.attributes]);
    } catch {
      key = library.name;
    }
    let tracer = this.tracers.get(key);
    if (tracer === undefined) this.tracers.set(key, (tracer = new OtelTracer(this.core, library)));
    return tracer;
  }

  /** Has a processor of OpenTelemetry's SDK called at the start and end of every span. It may change the span: what is
   * exported is what the processors leave. */
  addSpanProcessor(processor: SpanProcessor): void {
    if (typeof processor?.onStart !== 'function' || typeof processor.onEnd !== 'function') {
      throw new TypeError(`processor must be a SpanProcessor, not ${kindName(processor)}`);
    }
    this.core.processors = [...this.core.processors, processor];
  }

  /** What the process says of itself. */
  get resource(): { attributes: Record<string, any> } {
    return { attributes: this.core.told.resource };
  }

  /** Delivers what has ended so far. Rejects if that was not done in time, as OpenTelemetry's SDK has it. */
  async forceFlush(): Promise<void> {
    if (!(await flush(this.core, 30_000))) throw new Error('tracebaton: not everything was delivered');
  }

  /** The same, and takes no more spans. */
  async shutdown(): Promise<void> {
    if (this.core.owner !== undefined) forget(this.core.owner);
    await shutdown(this.core, 30_000);
  }
}

/** Delivers what has ended so far: true only if all of it was delivered within the time. */
export async function flush(core: Core, timeoutMs: number): Promise<boolean> {
  if (!core.enabled) return true;
  const begin = performance.now();
  const processed = await settled(core, 'forceFlush', timeoutMs);
  if (!PER_REQUEST) submitChunk();
  core.tellUnsampled();
  const left = Math.max(timeoutMs - (performance.now() - begin), 0);
  if (PER_REQUEST) return (await deliverHere(active(), left)) && processed;
  return (await exchange().backend.flush(core.handle, left)) && processed;
}

/** The same, and takes no more spans. */
export async function shutdown(core: Core, timeoutMs: number): Promise<boolean> {
  if (!core.enabled || core.isShutDown) return true;
  const begin = performance.now();
  if (!PER_REQUEST) submitChunk();
  core.tellUnsampled();
  core.isShutDown = true;
  const processed = await settled(core, 'shutdown', timeoutMs);
  core.processors = [];
  const left = Math.max(timeoutMs - (performance.now() - begin), 0);
  if (PER_REQUEST) return (await deliverHere(active(), left)) && processed;
  return (await exchange().backend.shutdown(core.handle, left)) && processed;
}

/** Has all processors flush or shut down, within the time. */
async function settled(core: Core, what: 'forceFlush' | 'shutdown', timeoutMs: number): Promise<boolean> {
  if (core.processors.length === 0) return true;
  let timer: any;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, timeoutMs, false);
  });
  const all = Promise.all(
    core.processors.map(async (processor) => {
      try {
        await processor[what]?.();
        return true;
      } catch {
        report(`a span processor threw in ${what}`);
        return false;
      }
    }),
  ).then((done) => done.every(Boolean));
  try {
    return await Promise.race([all, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The span context of any span object, if it has a valid one. */
export function contextOf(span: ApiSpan | undefined): SpanContext | undefined {
  try {
    const context = span?.spanContext();
    return isValid(context) ? context : undefined;
  } catch {
    return undefined;
  }
}
