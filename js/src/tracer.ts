/** `Tracer`: what a program holds. Also known as `HoneyHiveTracer`. */

import { installContextManager, installPropagator, installProvider } from './api.js';
import { camel, check, kindName, millis, require_, snake } from './arguments.js';
import { SPAN_KEY, active } from './context.js';
import { Core, report, warn, type Sampler, type Told } from './core.js';
import { checkFunction, enrich, fieldsOf, merged, runBlock, SpanBlock, SPAN_TEXTS, type SpanFields } from './enrich.js';
import { extractContextFromCarrier, injectContextIntoCarrier, type InjectOptions } from './distributed.js';
import { environment } from './environment.js';
import { createEvent, type EventOptions } from './events.js';
import { captured, exchange } from './exchange.js';
import { ForeignExporter, isExporter, summed, type Counts, type SpanExporter } from './foreign-exporter.js';
import { submitChunk, watchExit } from './handover.js';
import { prefixesOf, type NameFilters } from './name-filters.js';
import type { Context, SpanOptions } from './otel-types.js';
import { ownSpan } from './parent.js';
import { asPolicy, Policy, type PolicyOptions } from './policy.js';
import { TracebatonPropagator } from './propagator.js';
import { OP_DROP, OP_INIT, OP_MEMORY, OP_REPORTS, OP_STATS } from './protocol.js';
import { TracerProvider, flush, shutdown, type OtelTracer } from './provider.js';
import { forget, register } from './registry.js';
import { PER_REQUEST, UNNAMED_SERVICE, programName } from './runtime.js';
import { scopeOf } from './scope.js';
import {
  createSession,
  enrichSession,
  runInSession,
  tellFields,
  type SessionFields,
  type SessionOptions,
} from './sessions.js';
import type { Span } from './span.js';
import { AMPLE, TreeReader } from './tree.js';
import { VERSION } from './version.js';

/** The options of `Tracer.init` under the names that this language gives them. */
interface NamedOptions {
  /** HoneyHive's key (`HH_API_KEY`): spans go to `serverUrl` then. Without it they go to `OTEL_EXPORTER_OTLP_ENDPOINT`,
   * or to the local viewer at `http://127.0.0.1:4318`. */
  apiKey?: string | undefined;
  /** The project (`HH_PROJECT`). */
  project?: string | undefined;
  /** This service's own source (`HH_SOURCE`); default `dev`. */
  source?: string | undefined;
  /** The tracer's own session: 1 to 256 characters; a new UUID unless given. */
  sessionId?: string | undefined;
  /** What it is called (`HH_SESSION_NAME`); the program's name unless given. */
  sessionName?: string | undefined;
  /** HoneyHive's base URL (`HH_API_URL`). */
  serverUrl?: string | undefined;
  /** Where spans go: `honeyhive`, `otlp`, `console`, `memory`, `none`, a `SpanExporter` of OpenTelemetry's SDK, or several. */
  exporter?: string | SpanExporter | readonly (string | SpanExporter)[] | undefined;
  /** Whom to trust with what. */
  policy?: Policy | PolicyOptions | undefined;
  /** By its name in OpenTelemetry, or a sampler of its SDK. */
  sampler?: string | Sampler | undefined;
  /** What belongs to that name, such as a ratio. */
  samplerArgument?: string | undefined;
  /** Whether new traces say that their ids are random (W3C Trace Context level 2); default true. */
  randomFlag?: boolean | undefined;
  /** The name of the service (`OTEL_SERVICE_NAME`). */
  serviceName?: string | undefined;
  /** Whether secrets in captured values are replaced; default true. */
  redact?: boolean | undefined;
  /** Whether arguments and results are captured; default true. */
  capture?: boolean | undefined;
  /** How much a span may hold. */
  limits?: {
    attributes?: number;
    events?: number;
    links?: number;
    attributesPerEvent?: number;
    attributesPerLink?: number;
    /** Characters of a text. */
    valueLength?: number;
  };
  /** Variables beside those of the process, such as a Worker's bindings. */
  env?: object | undefined;
  /** A directory on a local disk (`TRACEBATON_SPOOL_DIR`): spans are there before `end` returns, so that nothing kills them
   * with the process, and the next start delivers them. */
  spoolDir?: string | undefined;
  /** Whether the provider becomes OpenTelemetry's global one. */
  setGlobal?: boolean | undefined;
  disableBatch?: boolean | undefined;
  disableTracing?: boolean | undefined;
  testMode?: boolean | undefined;
  verbose?: boolean | undefined;
  maxAttributes?: number | undefined;
  maxEvents?: number | undefined;
  maxLinks?: number | undefined;
  otlpEnabled?: boolean | undefined;
  otlpEndpoint?: string | undefined;
  otlpHeaders?: Record<string, string> | undefined;
  otlpProtocol?: string | undefined;
  batchSize?: number | undefined;
  /** Seconds. */
  flushInterval?: number | undefined;
  maxExportBatchSize?: number | undefined;
  /** Exports only spans whose names begin so, and none whose names begin as an excluded one. */
  spanNameFilters?: NameFilters | undefined;
  /** What the own session begins with, at HoneyHive. */
  inputs?: Record<string, unknown> | undefined;
  /** HoneyHive is not told of sessions: a session's first span creates it. */
  skipBackendSessionCreation?: boolean | undefined;
}

/** `fooBar` as `foo_bar`. */
type Snake<Name extends string> = Name extends `${infer First}${infer Rest}`
  ? `${First extends Lowercase<First> ? First : `_${Lowercase<First>}`}${Snake<Rest>}`
  : Name;
/** `foo_bar` as `fooBar`. */
type Camel<Name extends string> = Name extends `${infer First}_${infer Rest}`
  ? `${First}${Capitalize<Camel<Rest>>}`
  : Name;
type OptionsInSnakeCase = { [Name in keyof NamedOptions as Snake<Name>]: NamedOptions[Name] };
type IgnoredOptions = { [Name in Ignored as Name | Camel<Name>]?: unknown };

/** Arguments of `Tracer.init`. What is not given comes from the environment, then from defaults. Each may also be spelled
 * as Python spells it (`api_key`); what only HoneyHive's own client knows has no effect. */
export interface InitOptions extends NamedOptions, Omit<OptionsInSnakeCase, keyof NamedOptions>, IgnoredOptions {}

/** Options that core resolves; it says itself what is wrong with them. */
const SETTINGS = new Set([
  'api_key',
  'batch_size',
  'disable_batch',
  'disable_tracing',
  'flush_interval',
  'max_attributes',
  'max_events',
  'max_links',
  'otlp_enabled',
  'otlp_endpoint',
  'otlp_headers',
  'otlp_protocol',
  'project',
  'random_flag',
  'redact',
  'sampler_argument',
  'server_url',
  'service_name',
  'session_id',
  'session_name',
  'source',
  'spool_dir',
  'test_mode',
  'verbose',
]);
/** Options of HoneyHive's `init` that are taken so that programs written for it run, and mean nothing here. */
const WITHOUT_MEANING = [
  'cache_cleanup_interval',
  'cache_enabled',
  'cache_max_size',
  'cache_ttl',
  'disable_http_tracing',
  'max_span_size',
  'preserve_core_attributes',
] as const;
/** Options that mean something there which is not done here. */
const NOT_YET = [
  'dataset_id',
  'datapoint_id',
  'evaluation_config',
  'export_timeout',
  'instrument_modules',
  'is_evaluation',
  'link_carrier',
  'requests_session',
  'run_id',
] as const;
type Ignored = (typeof WITHOUT_MEANING | typeof NOT_YET)[number];
const LIMITS = new Set([
  'attributes',
  'events',
  'links',
  'attributes_per_event',
  'attributes_per_link',
  'value_length',
]);

/** Has Rust forget a tracer that nobody holds any more; what it has to deliver it delivers. */
const dropped = PER_REQUEST ? undefined : new FinalizationRegistry((handle: number) => {
  try {
    const to = exchange();
    submitChunk();
    to.begin(0);
    to.call(OP_DROP, handle);
  } catch {
    // It is gone already.
  }
});

/** The destination that exporters of OpenTelemetry's SDK are together. */
const EXPORTERS = 'opentelemetry';

let watchesReports = false;

/** The tracers that handlers have made, by their options. */
const made = new Map<string, Tracer>();

/** Options as a text, where they are nothing but data. */
function keyOf({ env, ...options }: InitOptions): string | undefined {
  const isData = (value: unknown): boolean =>
    typeof value !== 'function' &&
    (value === null ||
      typeof value !== 'object' ||
      Array.isArray(value) ||
      value instanceof Policy ||
      Object.getPrototypeOf(value) === Object.prototype) &&
    (value === null || typeof value !== 'object' || Object.values(value).every(isData));
  if (!isData(options)) return undefined;
  return JSON.stringify([options, environment((env as Record<string, unknown>) ?? {})]);
}

/** Records spans of one service and sends them to one or more backends. */
export class Tracer {
  /** @internal */
  readonly core: Core;
  /** @internal */
  readonly otelTracer: OtelTracer;
  /** OpenTelemetry's provider, for instrumentors: `instrumentation.setTracerProvider(tracer.provider)`. */
  readonly provider: TracerProvider;
  private readonly exporters: readonly ForeignExporter[];

  /** As `Tracer.init`. */
  constructor(options: InitOptions = {}) {
    check('options', options, 'object');
    const { request, given } = requestOf(options ?? {});
    const policy = asPolicy(given['policy'] as Policy | undefined);
    if (policy !== undefined) request['policy'] = policy.fields;
    const tree = captured(request, AMPLE);
    const to = exchange();
    to.begin(0).octets(tree);
    to.call(OP_INIT, 0);
    const handle = to.word(0);
    const told: Told = new TreeReader(to.memory.bytes, 4).value();
    this.core = new Core(handle, told, {
      sampler: given['sampler'] as Sampler | undefined,
      captures: given['capture'] !== false,
      spools: Boolean(request['spool_dir'] ?? (request['env'] as any)['TRACEBATON_SPOOL_DIR']),
      policy,
    });
    this.core.owner = this;
    dropped?.register(this.core, handle);
    for (const warning of told.warnings) warn(warning);
    this.provider = new TracerProvider(this.core);
    this.otelTracer = this.provider.getTracer('tracebaton', VERSION);
    this.exporters = (given['exporters'] as SpanExporter[]).map((exporter) => new ForeignExporter(exporter));
    for (const exporter of this.exporters) this.provider.addSpanProcessor(exporter);
    register(this);
    watchExit();
    if (!watchesReports) {
      watchesReports = true;
      to.backend.onReport?.(() => tellReports());
    }
    if (told.enabled) {
      installContextManager();
      installPropagator(() => new TracebatonPropagator());
      if (given['set_global'] === true && !installProvider(this.provider)) {
        report('setGlobal: there is a global provider already, or @opentelemetry/api is not installed');
      }
    }
  }

  /** Makes a tracer. It opens no connection: the first span that ends does, in the background.
   *
   * @throws TypeError for an argument of a wrong type, RangeError for one of a wrong value; both name it. A wrong value in
   * the environment is a warning, and the default holds.
   *
   * `env` are variables beside those of the process, such as a Worker's bindings. Where everything is done in requests, a
   * handler may call this each time: the same options give the same tracer.
   */
  static init(options: InitOptions = {}, env?: object): Tracer {
    check('options', options, 'object');
    const all = env === undefined || env === null ? (options ?? {}) : { ...options, env };
    if (!PER_REQUEST) return new Tracer(all);
    const key = keyOf(all);
    if (key === undefined) return new Tracer(all);
    let tracer = made.get(key);
    if (tracer === undefined || tracer.core.isShutDown) made.set(key, (tracer = new Tracer(all)));
    return tracer;
  }

  /** This tracer's own session; spans in a caller's context have the caller's. */
  get sessionId(): string {
    const { told, handle, sessionless } = this.core;
    // That of the request, where each has its own.
    if (sessionless) return scopeOf(active())?.view(handle).session ?? '';
    return told.session_id;
  }

  /** What the session is called. */
  get sessionName(): string | undefined {
    return this.core.told.session_name ?? undefined;
  }

  /** This service's project. */
  get project(): string | undefined {
    return this.core.told.project ?? undefined;
  }

  /** This service's source. */
  get source(): string {
    return this.core.told.source;
  }

  /** OpenTelemetry's tracer, which the spans of this one come from: `experimental_telemetry: { isEnabled: true, tracer:
   * tracer.tracer }`. */
  get tracer(): OtelTracer {
    return this.otelTracer;
  }

  /** `injectContextIntoCarrier` for this tracer. */
  injectContext<C>(carrier: C, options?: InjectOptions): C {
    return injectContextIntoCarrier(carrier, this, options);
  }

  /** `extractContextFromCarrier` for this tracer. */
  extractContext(carrier: unknown): Context {
    return extractContextFromCarrier(carrier, this);
  }

  /** Starts a span. With `fn`, it is the current one while that runs, and ends with it; what `fn` returns is returned.
   * Without, whoever starts it ends it. */
  startSpan(name: string, options?: SpanOptions): Span;
  startSpan<R>(name: string, fn: (span: Span) => R): R;
  startSpan<R>(name: string, options: SpanOptions, fn: (span: Span) => R): R;
  startSpan(name: string, second?: any, third?: any): any {
    require_('name', name, 'string');
    const fn = typeof second === 'function' ? second : third;
    const options: SpanOptions = typeof second === 'function' ? {} : (second ?? {});
    check('options', options, 'object');
    if (fn === undefined) return this.otelTracer.startSpan(name, options, active());
    checkFunction('fn', fn);
    return runBlock(new ActiveSpan(this.otelTracer, name, options), fn);
  }

  /** Puts fields on the current span of this tracer. Fields of other names go to the metadata. Whether anything was put:
   * not where no span of this tracer is current.
   *
   * @throws TypeError for a field of a wrong type
   */
  enrichSpan(fields: SpanFields & { [metadata: string]: unknown }): boolean {
    if (fields === null || typeof fields !== 'object' || Array.isArray(fields)) {
      throw new TypeError(`fields must be an object, not ${kindName(fields)}`);
    }
    const { fields: known, others } = fieldsOf(fields, SPAN_TEXTS);
    if (Object.keys(others).length > 0) known['metadata'] = merged(known['metadata'], others);
    const span = ownSpan(active(), this.core);
    return span !== undefined && enrich(span, known);
  }

  /** Merges fields into the session that holds here, or into the one that is named. HoneyHive is told in the background;
   * anywhere else it is a span without a duration, of event type `session`. Whether anything was put. */
  enrichSession(fields: SessionFields): boolean {
    return enrichSession(this, fields);
  }

  /** Begins a session: what comes next in this execution is in it, until the block around it ends (that of a span, a
   * request, `withSession`). Returns its id. Nothing waits for the network, and nothing that fails there changes the id. */
  createSession(options?: SessionOptions | string): string {
    return createSession(this, options);
  }

  /** Runs `fn` in a session of its own, whose id it gets, and returns what it returns. */
  withSession<R>(options: SessionOptions | string | undefined, fn: (sessionId: string) => R): R {
    return runInSession(this, options, fn);
  }

  /** Has HoneyHive told of this tracer's own session now, not at its first span. Returns its id. */
  sessionStart(): string {
    tellFields(this, undefined, true, {});
    return this.sessionId;
  }

  /** Records something that has happened, as a span in the trace and session that hold here. Returns the id of the span;
   * null where it is not recorded. */
  createEvent(eventName: string, options?: EventOptions): string | null;
  createEvent(options: EventOptions & { eventName: string }): string | null;
  createEvent(first: any, second?: EventOptions): string | null {
    return createEvent(this, first, second);
  }

  /** Delivers what has ended so far: true only if all of it was delivered within the time (milliseconds). */
  flush(timeoutMillis = 30_000): Promise<boolean> {
    return flush(this.core, millis('timeoutMillis', timeoutMillis));
  }

  /** As `flush`. */
  forceFlush(timeoutMillis = 30_000): Promise<boolean> {
    return this.flush(timeoutMillis);
  }

  /** Delivers what has ended so far, and takes no more: true only if all of it was delivered within the time. */
  shutdown(timeoutMillis = 30_000): Promise<boolean> {
    const within = millis('timeoutMillis', timeoutMillis);
    forget(this);
    return shutdown(this.core, within);
  }

  /** What became of the spans so far. */
  stats(): Stats {
    submitChunk();
    this.core.tellUnsampled();
    const told: Record<string, unknown> = exchange().ask(OP_STATS, this.core.handle, undefined);
    const destinations = told['destinations'] as Record<string, object>;
    if (this.exporters.length > 0) {
      const counts = summed(this.exporters.map((exporter) => exporter.counts()));
      destinations[EXPORTERS] = inSnakeCase(counts);
      Object.assign(told, inSnakeCase(summed([counts, inCamelCase(told) as unknown as Counts])));
    }
    const stats = inCamelCase(told);
    stats['sessions'] = inCamelCase(told['sessions'] as object);
    stats['destinations'] = Object.fromEntries(
      Object.entries(destinations).map(([name, counts]) => [name, inCamelCase(counts)]),
    );
    return stats as unknown as Stats;
  }

  /** The spans that the exporter `memory` holds, as OTLP/JSON has them. For tests. */
  recorded(): Record<string, any>[] {
    submitChunk();
    const texts: string[] = exchange().ask(OP_MEMORY, this.core.handle, undefined) ?? [];
    return texts.map((text) => JSON.parse(text));
  }
}

/** What became of a tracer's spans. */
export interface Stats extends Counts {
  /** Those that a caller's or the sampler's decision left out. */
  readonly notSampled: number;
  /** Those that were not delivered but are kept for the next start. */
  readonly spooled: number;
  /** Those that the spool had no room for: they were kept in memory only. */
  readonly unspooled: number;
  /** Those of whose beginning the spool knows nothing, for want of room. */
  readonly unspooledStarts: number;
  /** Those that processes which died had left, and that were taken over: they are queued, sent or dropped like others. */
  readonly recovered: number;
  /** What carriers held that was left out, by rule id. */
  readonly inboundDropped: Readonly<Record<string, number>>;
  /** The same of each address, of the `console`, and of exporters of OpenTelemetry's SDK, which are `opentelemetry`. */
  readonly destinations: Readonly<Record<string, Counts>>;
  /** The same of the requests that tell HoneyHive about sessions. */
  readonly sessions: Counts;
}

/** Counts under names of this language; those of other languages are there, too, but not listed. */
function inCamelCase(counts: object): Record<string, unknown> {
  const named: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(counts)) {
    named[camel(name)] = value;
    if (camel(name) !== name) Object.defineProperty(named, name, { value, enumerable: false });
  }
  return named;
}

function inSnakeCase({ lastError, ...counts }: Counts): object {
  return { ...counts, last_error: lastError };
}

/** A span that is current in a block, as OpenTelemetry starts it. */
class ActiveSpan extends SpanBlock {
  constructor(tracer: OtelTracer, name: string, options: SpanOptions) {
    const base = active();
    const span = tracer.startSpan(name, options, base);
    super(span, base.setValue(SPAN_KEY, span));
  }
}

/** Warns of what Rust has to report. */
export function tellReports(): void {
  try {
    for (const text of exchange().ask(OP_REPORTS, 0, undefined) ?? []) warn(text);
  } catch {
    // A report is no reason to fail.
  }
}

/** The request of INIT, and what is this side's own. */
function requestOf(options: InitOptions): { request: Record<string, unknown>; given: Record<string, unknown> } {
  const request: Record<string, unknown> = {};
  const given: Record<string, unknown> = { exporters: [] };
  for (const [name, value] of Object.entries(options)) {
    const key = snake(name);
    if (value === undefined || value === null) continue;
    if (SETTINGS.has(key)) request[key] = value;
    else if (key === 'policy') given[key] = value;
    else if (key === 'env') {
      check(name, value, 'object');
      given[key] = value;
    }
    else if (key === 'capture' || key === 'set_global') {
      check(name, value, 'boolean');
      given[key] = value;
    } else if (key === 'sampler') {
      if (typeof (value as Sampler).shouldSample === 'function') given[key] = value;
      else request[key] = value;
    } else if (key === 'exporter') [request[key], given['exporters']] = exportersOf(value);
    else if (key === 'limits') Object.assign(request, limitsOf(value));
    else if (key === 'span_name_filters') request['name_filters'] = prefixesOf(value);
    else if (key === 'inputs') {
      check(name, value, 'object');
      request[key] = value;
    } else if (key === 'skip_backend_session_creation') {
      check(name, value, 'boolean');
      request['register'] = !value;
    } else if (key === 'max_export_batch_size') request['batch_size'] ??= value;
    else if ((NOT_YET as readonly string[]).includes(key)) report(`${name}: has no effect here`);
    else if (!(WITHOUT_MEANING as readonly string[]).includes(key)) throw new TypeError(`init has no option ${name}`);
  }
  request['env'] = { ...environment(), ...environment((given['env'] as Record<string, unknown>) ?? {}) };
  request['default_service'] = UNNAMED_SERVICE;
  request['default_session_name'] ??= programName();
  return { request, given };
}

function limitsOf(limits: unknown): Record<string, unknown> {
  check('limits', limits, 'object');
  const found: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(limits as object)) {
    const key = snake(name);
    if (!LIMITS.has(key)) throw new TypeError(`limits has no field ${name}`);
    found[`max_${key}`] = value;
  }
  return found;
}

/** The names among exporters, and the objects. */
function exportersOf(value: unknown): [names: string[], objects: SpanExporter[]] {
  const all: unknown[] = Array.isArray(value) ? value : [value];
  const objects: SpanExporter[] = [];
  const names: string[] = [];
  for (const one of all) {
    if (typeof one === 'string') names.push(one);
    else if (isExporter(one)) objects.push(one);
    else throw new TypeError(`exporter must be a string, a SpanExporter or a list of them, not ${kindName(one)}`);
  }
  return [names.length === 0 ? ['none'] : names, objects];
}
