/** The state of a tracer that its spans, provider and blocks share. */

import { captured, exchange, loadedExchange } from './exchange.js';
import { chooseOutbox } from './handover.js';
import type { Context } from './otel-types.js';
import { COUNT_UNSAMPLED, OP_COUNT, OP_INSTRUMENTATION, OP_USE_SESSION } from './protocol.js';
import type { Policy } from './policy.js';
import { PER_REQUEST } from './runtime.js';
import type { Scope, Sent } from './scope.js';
import type { Span } from './span.js';
import { AMPLE, type Caps } from './tree.js';

/** How much a span may hold; the lengths are core's. */
export interface Limits {
  readonly attributes: number;
  readonly events: number;
  readonly links: number;
  readonly leaves: number;
  readonly captured_bytes: number;
  readonly value_depth: number;
  readonly value_length: number | null;
}

/** What INIT answers. */
export interface Told {
  readonly session_id: string;
  readonly session_name: string | null;
  readonly project: string | null;
  readonly source: string;
  readonly enabled: boolean;
  readonly verbose: boolean;
  readonly limits: Limits;
  readonly sampler: string;
  readonly random_flag: boolean;
  /** For no parent, one here that is sampled, one here that is not, one elsewhere that is, one elsewhere that is not: 1 to
   * record, 0 not to, -1 to ask. */
  readonly decisions: readonly number[];
  readonly records_starts: boolean;
  readonly exporters: readonly string[];
  /** Whether spans go anywhere but to HoneyHive. */
  readonly elsewhere: boolean;
  /** What becomes of callers' traces. */
  readonly inbound: string;
  readonly baggage_attributes: readonly string[];
  readonly warnings: readonly string[];
  readonly resource: Record<string, any>;
}

/** A span processor, as OpenTelemetry's SDK has it. */
export interface SpanProcessor {
  onStart(span: any, parentContext: any): void;
  onEnding?(span: any): void;
  onEnd(span: any): void;
  forceFlush(): Promise<void>;
  shutdown(): Promise<void>;
}

/** A sampler, as OpenTelemetry's SDK has it. */
export interface Sampler {
  shouldSample(
    context: any,
    traceId: string,
    spanName: string,
    spanKind: any,
    attributes: any,
    links: any,
  ): { decision: number; attributes?: any; traceState?: any };
  toString(): string;
}

/** A library that makes spans. */
export interface InstrumentationScope {
  readonly name: string;
  readonly version?: string | undefined;
  readonly schemaUrl?: string | undefined;
  readonly attributes?: Record<string, unknown> | undefined;
}

/** What of a tracer's arguments is the binding's own business. */
export interface CoreOptions {
  readonly sampler: Sampler | undefined;
  readonly captures: boolean;
  readonly spools: boolean;
  readonly policy: Policy | undefined;
}

/** The native side of a tracer. */
export class Core {
  /** 0: there is none, since the tracer is disabled. */
  readonly handle: number;
  readonly told: Told;
  readonly limits: Limits;
  readonly caps: Caps;
  readonly decisions: readonly number[];
  readonly sampler: Sampler | undefined;
  /** Whether arguments and results are captured. */
  readonly captures: boolean;
  /** Whether HoneyHive is told of sessions. */
  readonly registers: boolean;
  /** Whether spans are in the spool from their beginning on. */
  readonly recordsStarts: boolean;
  /** Whether each span is in the spool when its `end` returns. */
  readonly spools: boolean;
  /** What becomes of callers' traces, where they do not just go on: for propagators of no tracer. */
  readonly inboundPolicy: Policy | undefined;
  /** What is sent where no scope is: see `propagation.ts`. */
  sent: Sent | undefined = undefined;
  /** The public tracer. */
  owner: any = undefined;
  processors: readonly SpanProcessor[] = [];
  isShutDown = false;
  /** Whether each request has a session of its own, since the tracer has none. */
  readonly sessionless: boolean;
  private usedOwnSession = false;
  private unsampled = 0;

  constructor(handle: number, told: Told, options: CoreOptions) {
    this.handle = handle;
    this.told = told;
    this.limits = told.limits;
    const { leaves, captured_bytes, value_depth } = told.limits;
    // Enough for core to see what it cuts.
    this.caps = { depth: Math.min(value_depth + 2, 126), nodes: 8 * leaves + 2_000, size: 4 * captured_bytes + 65_536 };
    this.decisions = told.decisions;
    this.sampler = told.enabled ? options.sampler : undefined;
    this.captures = options.captures;
    this.spools = options.spools || told.records_starts;
    this.inboundPolicy = told.inbound === 'continue' ? undefined : options.policy;
    this.sessionless = PER_REQUEST && told.session_id === '';
    this.registers = told.exporters.includes('honeyhive');
    this.recordsStarts = told.records_starts;
  }

  get enabled(): boolean {
    return this.told.enabled;
  }

  /** To be called when a recorded span begins in this scope. */
  useSession(scope: Scope | undefined, context: Context): void {
    if (!this.registers) return;
    if (scope === undefined) {
      if (this.usedOwnSession) return;
      this.usedOwnSession = true;
    } else if (!scope.firstUse(this.handle)) {
      return;
    }
    chooseOutbox(context);
    const to = exchange();
    to.begin(0).octets(scope === undefined ? '' : scope.blob);
    to.call(OP_USE_SESSION, this.handle);
  }

  /** Counts a span that a parent's or the sampler's decision leaves out. */
  countUnsampled(): void {
    if (this.enabled && this.unsampled++ === 0) queueMicrotask(() => this.tellUnsampled());
  }

  /** Tells Rust what was counted. */
  tellUnsampled(): void {
    if (this.unsampled === 0) return;
    count(this.handle, COUNT_UNSAMPLED, this.unsampled);
    this.unsampled = 0;
  }

  /** The number of an instrumenting library in span records. */
  instrumentation(scope: InstrumentationScope): number {
    const tree = captured(
      {
        name: scope.name,
        version: scope.version ?? null,
        schema_url: scope.schemaUrl ?? null,
        attributes: scope.attributes ?? {},
      },
      AMPLE,
    );
    const to = exchange();
    to.begin(0).octets(tree);
    to.call(OP_INSTRUMENTATION, this.handle);
    return to.word(0);
  }

  onStart(span: Span, context: Context): void {
    for (const processor of this.processors) guarded('onStart', () => processor.onStart(span, context));
  }

  onEnding(span: Span): void {
    for (const processor of this.processors) {
      if (typeof processor.onEnding === 'function') guarded('onEnding', () => processor.onEnding!(span));
    }
  }

  onEnd(span: Span): void {
    for (const processor of this.processors) guarded('onEnd', () => processor.onEnd(span));
  }
}

/** Counts something at a tracer. */
export function count(tracer: number, what: number, times: number): void {
  const to = loadedExchange();
  if (to === undefined || tracer === 0) return;
  const { view } = to.begin(2);
  view.setUint32(0, what, true);
  view.setUint32(4, times, true);
  to.call(OP_COUNT, tracer);
}

function guarded(what: string, call: () => void): void {
  try {
    call();
  } catch {
    report(`a span processor threw in ${what}`);
  }
}

const reported = new Set<string>();

/** Says what went wrong in tracing, once for each text. It holds nothing of what passes through. */
export function report(text: string): void {
  if (reported.has(text)) return;
  reported.add(text);
  warn(text);
}

/** Says something to whoever runs the program. */
export function warn(text: string): void {
  try {
    const { process } = globalThis as any;
    if (typeof process?.emitWarning === 'function') process.emitWarning(text, 'TracebatonWarning');
    else (globalThis as any).console?.warn?.(`tracebaton: ${text}`);
  } catch {
    // Whoever listens to warnings has his own.
  }
}
