/** Sessions that a program makes itself, one for each request or conversation; fields for whole sessions. */

import { check, kindName, snake } from './arguments.js';
import { BLOCK_KEY, SCOPE_KEY, SPAN_KEY, active, enter, within } from './context.js';
import { report } from './core.js';
import { checkFunction, enrich, fieldsOf, merged, type Fields } from './enrich.js';
import { captured, exchange } from './exchange.js';
import { chooseOutbox } from './handover.js';
import type { Context } from './otel-types.js';
import { OP_ENRICH_SESSION, OP_REGISTER_SESSION } from './protocol.js';
import { scopeOf, withSession, type Scope } from './scope.js';
import { checkSessionId } from './session-id.js';
import type { Tracer } from './tracer.js';

/** What a session begins with. */
export interface SessionOptions {
  sessionName?: string;
  /** 1 to 256 characters; a new UUID unless given. */
  sessionId?: string;
  inputs?: Record<string, unknown>;
  metadata?: Record<string, unknown>;
  userProperties?: Record<string, unknown>;
  /** What HoneyHive is told; spans have this service's own. */
  source?: string;
  /** HoneyHive is not told: somebody else registers the session. */
  skipApiCall?: boolean;
}

const TEXTS = ['session_name', 'session_id', 'source'];
const OBJECTS = ['inputs', 'metadata', 'user_properties'];

interface Begun {
  readonly context: Context;
  readonly sessionId: string;
}

/** Begins a session: what comes next in this execution is in it. */
export function createSession(tracer: Tracer, options: SessionOptions | string | undefined): string {
  const { context, sessionId } = begin(tracer, options);
  if (!enter(context))
    report('createSession: the context manager that is registered cannot change the current context; use withSession');
  return sessionId;
}

/** Runs `fn` in a session of its own, whose id it gets. */
export function runInSession<R>(
  tracer: Tracer,
  options: SessionOptions | string | undefined,
  fn: (sessionId: string) => R,
): R {
  checkFunction('fn', fn);
  const { context, sessionId } = begin(tracer, options);
  const block = { tracer, span: context.getValue(SPAN_KEY) };
  return within(context.setValue(BLOCK_KEY, block), () => fn(sessionId));
}

function begin(tracer: Tracer, options: SessionOptions | string | undefined): Begun {
  const fields = checked(options);
  const sessionId = (fields['session_id'] as string | undefined) ?? globalThis.crypto.randomUUID();
  const { core } = tracer;
  const base = active();
  const name = (fields['session_name'] as string | undefined) || undefined;
  const scope = withSession(scopeOf(base), core.handle, sessionId, name, fields['skip_api_call'] === true);
  const context = base.setValue(SCOPE_KEY, scope);
  if (core.enabled) {
    try {
      tell(tracer, context, scope, fields);
    } catch {
      report('what a session begins with could not be captured');
    }
  }
  return { context, sessionId };
}

function checked(options: SessionOptions | string | undefined): Fields {
  if (options === undefined || options === null) return {};
  if (typeof options === 'string') return options === '' ? {} : { session_name: options };
  check('options', options, 'object');
  const fields: Fields = {};
  for (const [name, value] of Object.entries(options)) {
    const key = snake(name);
    if (TEXTS.includes(key)) check(name, value, 'string');
    else if (OBJECTS.includes(key)) check(name, value, 'object');
    else if (key === 'skip_api_call') check(name, value, 'boolean');
    else throw new TypeError(`createSession has no option ${name}`);
    if (value !== undefined && value !== null && value !== '') fields[key] = value;
  }
  if (fields['session_id'] !== undefined) checkSessionId('sessionId', fields['session_id']);
  return fields;
}

function tell(tracer: Tracer, context: Context, scope: Scope, fields: Fields): void {
  const { core } = tracer;
  const given: Fields = {};
  for (const key of OBJECTS) if (fields[key] !== undefined) given[key] = fields[key];
  if (core.registers) {
    const tree = captured(fields['source'] === undefined ? given : { ...given, source: fields['source'] }, core.caps);
    chooseOutbox(context);
    const to = exchange();
    const request = to.begin(1);
    request.octets(scope.blob);
    request.octets(tree);
    request.view.setUint32(0, scope.blob.length, true);
    to.call(OP_REGISTER_SESSION, core.handle);
  }
  if (Object.keys(given).length > 0 && core.told.elsewhere) {
    const span = tracer.otelTracer.begun('create_session', {}, context);
    enrich(span, { ...given, event_type: 'session' });
    span.endElsewhere();
  }
}

/** Fields of a whole session. Others go to the metadata. */
export interface SessionFields {
  metadata?: unknown;
  inputs?: unknown;
  outputs?: unknown;
  metrics?: unknown;
  feedback?: unknown;
  config?: unknown;
  userProperties?: unknown;
  /** The session that is meant; the one that holds here unless given. */
  sessionId?: string;
  [metadata: string]: unknown;
}

/** Merges fields into a session; whether anything was put. */
export function enrichSession(tracer: Tracer, options: SessionFields): boolean {
  if (options === null || typeof options !== 'object' || Array.isArray(options)) {
    throw new TypeError(`fields must be an object, not ${kindName(options)}`);
  }
  const { fields: all, others } = fieldsOf(options, ['session_id']);
  const { session_id: sessionId, attributes, ...fields } = all as any;
  if (attributes !== undefined) others['attributes'] = attributes;
  if (sessionId !== undefined) checkSessionId('sessionId', sessionId);
  if (Object.keys(others).length > 0) fields['metadata'] = merged(fields['metadata'], others);
  const { core } = tracer;
  if (Object.keys(fields).length === 0 || !core.enabled) return false;
  let context = active();
  let scope = scopeOf(context);
  if (sessionId === undefined && core.sessionless && scope?.view(core.handle).session === undefined) return false;
  if (sessionId !== undefined) {
    // One that is named is another's to register, and to name.
    scope = withSession(scope, core.handle, sessionId, undefined, true);
    context = context.setValue(SCOPE_KEY, scope);
  }
  try {
    let put = false;
    if (core.told.elsewhere) {
      const span = tracer.otelTracer.begun('enrich_session', {}, context);
      enrich(span, { ...fields, event_type: 'session' });
      put = span.endElsewhere();
    }
    return tellFields(tracer, scope, sessionId === undefined, fields) || put;
  } catch {
    report('a field of a session could not be captured');
    return false;
  }
}

/** Has HoneyHive told of fields of a session; with none, of the session. Whether that was queued. */
export function tellFields(tracer: Tracer, scope: Scope | undefined, registers: boolean, fields: Fields): boolean {
  const { core } = tracer;
  if (!core.registers) return false;
  const tree = captured(fields, core.caps);
  const blob = scope === undefined ? '' : scope.blob;
  chooseOutbox(active());
  const to = exchange();
  const request = to.begin(2);
  request.octets(blob);
  request.octets(tree);
  request.view.setUint32(0, registers ? 1 : 0, true);
  request.view.setUint32(4, blob.length, true);
  to.call(OP_ENRICH_SESSION, core.handle);
  return to.word(0) === 1;
}
