// The vectors that every language reads, through the JavaScript surface: `tests/vectors/README.md`. Cases about what
// JavaScript does not show (mutation of core's baggage, truncation, settings) are core's own tests.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import * as api from '@opentelemetry/api';

import {
  Policy,
  TracebatonPropagator,
  explain,
  extractContextFromCarrier,
  injectContextIntoCarrier,
  withDistributedTraceContext,
} from '../dist/esm/index.mjs';
import { CALLER, cases, makeTracer, onlySpan, spansOf } from './helpers.mjs';

/** Runs a test for each case of a file. */
function each(file, what, wanted, run) {
  describe(`${file}: ${what}`, () => {
    for (const one of cases(file, wanted)) test(one.name, () => run(one.input ?? one, one.expected, one));
  });
}

const all = () => true;

/** A policy as the vectors have it, in JavaScript's spelling. */
function policyOf(policy) {
  if (policy === undefined || policy === null) return undefined;
  const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(policy).map(([name, value]) => [camel(name), value]));
}

/** Runs `fn` where nothing is current but this context. */
const within = (context, fn) => api.context.with(context, fn);

/** The headers that are sent from this context. */
function sentFrom(context, tracer) {
  return within(context, () => injectContextIntoCarrier({}, tracer));
}

function factsOf(context) {
  const span = api.trace.getSpanContext(context);
  if (span === undefined || !api.isSpanContextValid(span)) return null;
  return {
    trace_id: span.traceId,
    span_id: span.spanId,
    flags: span.traceFlags,
    tracestate: span.traceState?.serialize() ?? '',
  };
}

/** The members of a baggage text but for those that ours replace. */
function keptOf(text, ours) {
  const aliases = ours.flatMap((key) => ['', 'honeyhive.', 'honeyhive_'].map((prefix) => prefix + key));
  return text === '' ? [] : text.split(',').filter((member) => !aliases.includes(member.split('=')[0].trim()));
}

each('extract', 'all', all, (input, expected) => {
  const tracer = makeTracer({ policy: policyOf(input.policy) });
  let facts;
  let sent;
  withDistributedTraceContext(input.carrier, tracer, (context) => {
    facts = factsOf(context);
    tracer.startSpan('s').end();
    sent = injectContextIntoCarrier({});
  });
  assert.deepEqual(facts, expected.span);
  assert.deepEqual(Object.keys(tracer.stats().inboundDropped).sort(), [...expected.dropped].sort());
  // Not sampled: no span to look at.
  if (expected.span !== null && (expected.span.flags & 1) === 0) return;
  const span = onlySpan(tracer);
  assert.equal(span.session, expected.session ?? 'own');
  assert.equal(span.project, expected.project);
  const links = span.links.map((link) => ({
    trace_id: link.traceId,
    span_id: link.spanId,
    flags: (link.flags ?? 0) & 3,
    tracestate: link.traceState ?? '',
  }));
  assert.deepEqual(links, expected.link ? [expected.link] : []);
  const ours = ['session_id', ...(span.project ? ['project'] : []), 'source'];
  const members = sent.baggage.split(',');
  assert.deepEqual(
    members.slice(0, ours.length).map((member) => member.split('=')[0]),
    ours,
  );
  assert.deepEqual(members.slice(ours.length), keptOf(expected.baggage, ours).slice(0, 180 - ours.length));
});

const entriesOf = (context) =>
  Object.fromEntries(
    (api.propagation.getBaggage(context)?.getAllEntries() ?? []).map(([name, { value }]) => [name, value]),
  );

each('extract', 'other carriers', all, (input) => {
  const tracer = makeTracer({ policy: policyOf(input.policy) });
  const pairs = input.carrier;
  const expected = extractContextFromCarrier(pairs, tracer);
  const carriers = [
    pairs.flat(),
    pairs.map(([name, value]) => [Buffer.from(name), Buffer.from(value, 'latin1')]),
    { rawHeaders: pairs.flat(), __proto__: { headers: {} } },
    new Set(pairs),
  ];
  if (new Set(pairs.map(([name]) => name)).size === pairs.length) {
    carriers.push(
      Object.fromEntries(pairs),
      Object.assign(Object.create(null), Object.fromEntries(pairs)),
      new Map(pairs),
    );
  }
  for (const carrier of carriers) {
    const context = extractContextFromCarrier(carrier, tracer);
    assert.deepEqual(entriesOf(context), entriesOf(expected));
    assert.deepEqual(factsOf(context), factsOf(expected));
  }
});

const injectable = ({ input }) =>
  Boolean(input.session) &&
  Boolean(input.source) &&
  !('policy' in input) &&
  !('origin' in input) &&
  (input.application ?? []).every((entry) => entry.length === 2);

each('inject', 'through a tracer', injectable, (input, expected) => {
  const { session, project, source } = input;
  const tracer = makeTracer({ sessionId: session, project: project ?? undefined, source });
  let context = api.ROOT_CONTEXT;
  if (input.inbound) {
    // Of sessions that came in the case says itself what holds.
    context = withDistributedTraceContext([['baggage', input.inbound]], tracer, (inner) => inner, {
      sessionId: session,
    });
  }
  const entries = input.api ?? input.application ?? [];
  if (input.api) context = api.propagation.setBaggage(context, api.propagation.createBaggage());
  if (entries.length > 0 || input.api) {
    let baggage = api.propagation.getBaggage(context) ?? api.propagation.createBaggage();
    for (const [name, value] of entries) baggage = baggage.setEntry(name, { value });
    context = api.propagation.setBaggage(context, baggage);
  }
  if (input.span) {
    const { trace_id, span_id, flags, tracestate } = input.span;
    const lines = { traceparent: `00-${trace_id}-${span_id}-${flags.toString(16).padStart(2, '0')}`, tracestate };
    const remote = api.trace.getSpan(new TracebatonPropagator().extract(api.ROOT_CONTEXT, lines));
    context = api.trace.setSpan(context, remote);
  }
  const carrier = (input.carrier ?? []).map((pair) => [...pair]);
  for (const url of Array.isArray(input.to) ? input.to : [input.to]) {
    within(context, () => injectContextIntoCarrier(carrier, tracer, { url: url ?? undefined }));
  }
  assert.deepEqual(carrier.sort(), expected.carrier.sort());
});

each('traceparent', 'headers', all, (input, expected) => {
  const tracer = makeTracer();
  const context = extractContextFromCarrier(
    input.headers.map((value) => ['traceparent', value]),
    tracer,
  );
  assert.equal(sentFrom(context).traceparent ?? null, expected.text);
  assert.deepEqual(Object.keys(tracer.stats().inboundDropped).sort(), [...expected.dropped].sort());
});

/** Members of a trace state's text: what is sent is what its class is asked for. */
each(
  'tracestate',
  'headers',
  ({ input }) => !('steps' in input),
  (input, expected) => {
    const tracer = makeTracer();
    const lines = input.headers.map((value) => ['tracestate', value]);
    const context = extractContextFromCarrier([['traceparent', CALLER], ...lines], tracer);
    const state = api.trace.getSpanContext(context).traceState;
    for (const [key, value] of expected.members) assert.equal(state?.get(key), value);
    assert.equal(sentFrom(context).tracestate ?? '', expected.text);
    assert.deepEqual(Object.keys(tracer.stats().inboundDropped).sort(), [...expected.dropped].sort());
  },
);

const ofTheApi = ({ input }) => (input.steps ?? []).length > 0 && !input.steps.some((step) => 'truncate' in step);

each('tracestate', 'steps', ofTheApi, (input, expected) => {
  const lines = input.headers.map((value) => ['tracestate', value]);
  const context = extractContextFromCarrier([['traceparent', CALLER], ...lines], makeTracer());
  let state = api.trace.getSpanContext(context).traceState;
  for (const step of input.steps) state = step.insert ? state.set(...step.insert) : state.unset(step.delete);
  assert.equal(state.serialize(), expected.text);
});

const readOnly = ({ input }) =>
  Object.keys(input).every((key) => ['headers', 'max_members', 'max_bytes'].includes(key));

each('baggage', 'headers', readOnly, (input, expected) => {
  const { headers, ...limits } = input;
  const tracer = makeTracer({ policy: policyOf(limits) });
  const context = extractContextFromCarrier(
    headers.map((value) => ['baggage', value]),
    tracer,
  );
  assert.deepEqual(entriesOf(context), Object.fromEntries(expected.members.map(({ name, value }) => [name, value])));
  for (const { name, properties } of expected.members.slice(0, 1)) {
    assert.equal(api.propagation.getBaggage(context).getEntry(name).metadata?.toString() ?? null, properties ?? null);
  }
  assert.deepEqual(Object.keys(tracer.stats().inboundDropped).sort(), [...expected.dropped].sort());
});

each(
  'baggage',
  'reconciled with the API',
  ({ input }) => 'api' in input,
  (input, expected) => {
    const lines = input.headers.map((value) => ['baggage', value]);
    let context = new TracebatonPropagator().extract(api.ROOT_CONTEXT, lines);
    let baggage = api.propagation.createBaggage();
    for (const { name, value, properties } of input.api) {
      baggage = baggage.setEntry(name, {
        value,
        ...(properties ? { metadata: api.baggageEntryMetadataFromString(properties) } : {}),
      });
    }
    context = api.propagation.setBaggage(context, baggage);
    const sent = {};
    new TracebatonPropagator().inject(context, sent);
    const members = (sent.baggage ?? '').split(',').map((member) => member.trim());
    for (const member of expected.inbound.split(',').filter(Boolean))
      assert.ok(members.includes(member.trim()), member);
    const names = members.map((member) => member.split('=')[0].trim());
    // A name that is no token cannot be sent (rule B13).
    for (const { name } of expected.application) assert.equal(names.includes(name), !name.includes(' '));
  },
);

each(
  'policy',
  'destinations',
  ({ input }) => 'to' in input && !('origin' in input),
  (input, expected) => {
    let tracer;
    try {
      tracer = makeTracer({ policy: policyOf(input.policy) });
    } catch (error) {
      // Said at once where core has a pattern that matches nothing.
      assert.match(error.message, /propagateTo/);
      assert.equal(expected.baggage, false);
      return;
    }
    const context = new TracebatonPropagator().extract(api.ROOT_CONTEXT, { traceparent: CALLER });
    const sent = within(context, () => injectContextIntoCarrier({}, tracer, { url: input.to }));
    assert.deepEqual({ trace: 'traceparent' in sent, baggage: 'baggage' in sent }, expected);
  },
);

each(
  'policy',
  'patterns',
  ({ input }) => 'pattern' in input,
  ({ pattern }, expected) => {
    const make = () => makeTracer({ policy: new Policy({ propagateTo: ['api.example.com', pattern] }) });
    if (expected.valid) make();
    else assert.throws(make, /propagateTo/);
  },
);

each('parent', 'all', all, (input, expected) => {
  const tracer = makeTracer({ policy: policyOf(input.policy) });
  let context = api.ROOT_CONTEXT;
  const { current } = input;
  if (current) {
    const { trace_id: traceId, span_id: spanId, remote: isRemote } = current;
    context = api.trace.setSpanContext(context, { traceId, spanId, isRemote, traceFlags: 1 });
  }
  within(context, () => withDistributedTraceContext(input.carrier, tracer, () => tracer.startSpan('s').end()));
  const span = onlySpan(tracer);
  const parents = { current: current?.span_id, caller: CALLER.split('-')[2], null: undefined };
  assert.equal(span.parentSpanId || undefined, parents[String(expected.parent)]);
  assert.equal(span.links.length > 0, expected.link);
});

each('explain', 'all', all, (input, expected) => {
  const findings = explain(input.carrier, input.policy ? { policy: policyOf(input.policy) } : {});
  assert.deepEqual(
    findings.map(({ header, position, verdict, rule }) => [
      position === null ? header : `${header}[${position}]`,
      verdict,
      rule,
    ]),
    expected.findings ?? expected,
  );
});

each(
  'session',
  'ids',
  ({ input }) => 'raw' in input,
  ({ raw }, expected) => {
    if (!expected.valid) assert.throws(() => makeTracer({ sessionId: raw }), /sessionId/);
    else assert.equal(makeTracer({ sessionId: raw }).sessionId, raw);
  },
);

each(
  'session',
  'which one holds',
  ({ input }) => 'steps' in input,
  (input, expected) => {
    input.asks.forEach((ask, index) => {
      // Without a tracer there is no session of a span.
      if (ask.tracer === null || ask.tracer === undefined) return;
      const tracers = new Map();
      const tracerOf = (number) => {
        if (!tracers.has(number)) {
          const policy = number === ask.tracer ? policyOf(ask.policy) : undefined;
          tracers.set(number, makeTracer({ sessionId: `own ${number}`, policy }));
        }
        return tracers.get(number);
      };
      let context = api.ROOT_CONTEXT;
      for (const step of input.steps) {
        context = within(context, () => {
          if (step.with_session) {
            const [number, sessionId] = step.with_session;
            return withDistributedTraceContext({}, tracerOf(number), (inner) => inner, { sessionId });
          }
          if (step.with_inbound === null) return new TracebatonPropagator().extract(context, step.carrier);
          // A policy of the call is whole: it does not take what it does not say from the tracer's.
          const policy = policyOf(step.policy ?? {});
          return withDistributedTraceContext(step.carrier, tracerOf(step.with_inbound), (inner) => inner, { policy });
        });
      }
      const tracer = tracerOf(ask.tracer);
      within(context, () => tracer.startSpan('s').end());
      const answer = expected.answers[index];
      const [span] = spansOf(tracer);
      assert.equal(span.session, answer.session ?? `own ${ask.tracer}`);
      assert.equal(span.project, answer.project);
      assert.equal(span.links.length > 0, answer.link);
    });
  },
);

/** A context with this parent; without one, an empty one. */
function below(traceId, parent) {
  if (parent === null) return api.ROOT_CONTEXT;
  const { flags: traceFlags, is_remote: isRemote } = parent;
  return api.trace.setSpanContext(api.ROOT_CONTEXT, { traceId, spanId: 'b7ad6b7169203331', traceFlags, isRemote });
}

const ROUTING = [
  'honeyhive.session_id',
  'honeyhive.session_name',
  'honeyhive.session_auto_create',
  'honeyhive.project',
  'honeyhive.source',
  'session.id',
];
const STATUSES = { unset: 0, ok: 1, error: 2 };

each('span', 'all', all, (input, expected) => {
  const traceId = '05'.repeat(16);
  const names = { limit: 'attributes', link_limit: 'attributesPerLink', value_limit: 'valueLength' };
  const limits = Object.fromEntries(
    Object.entries(names)
      .filter(([key]) => key in input)
      .map(([key, name]) => [name, input[key]]),
  );
  const tracer = makeTracer({ sampler: 'always_on', limits });
  const span = tracer.provider.getTracer('library').startSpan('s', {}, below(traceId, input.parent));
  for (const [key, value] of input.attributes ?? []) span.setAttribute(key, value);
  for (const { flags: traceFlags, is_remote: isRemote, attributes } of input.links ?? []) {
    span.addLink({ context: { traceId, spanId: 'b7ad6b7169203331', traceFlags, isRemote }, attributes });
  }
  for (const [name, message] of input.statuses ?? [])
    span.setStatus({ code: STATUSES[name], message: message || undefined });
  span.end();
  const recorded = onlySpan(tracer);
  const own = new Set((input.attributes ?? []).map(([key]) => key));
  const found = {
    flags: recorded.flags,
    attributes: Object.entries(recorded.attributes).filter(
      ([key]) => key !== 'honeyhive_event_type' && (!ROUTING.includes(key) || own.has(key)),
    ),
    event_type: recorded.attributes.honeyhive_event_type,
    dropped_attributes: recorded.droppedAttributesCount ?? 0,
    links: recorded.links.map((link) => ({
      flags: link.flags ?? 0,
      dropped_attributes: link.droppedAttributesCount ?? 0,
      ...(Object.keys(link.attributes).length > 0 ? { attributes: Object.entries(link.attributes) } : {}),
    })),
    status: recorded.status?.code ? [Object.keys(STATUSES)[recorded.status.code], recorded.status.message ?? ''] : null,
  };
  for (const key of Object.keys(expected)) assert.deepEqual(found[key], expected[key], key);
});

const decidable = ({ sampler, parent }) => parent !== null || !sampler.endsWith('ratio');

each('sampler', 'all', decidable, (input, expected) => {
  const { sampler, argument: samplerArgument, random_flag: randomFlag } = input;
  const tracer = makeTracer({ sampler, samplerArgument, randomFlag });
  const span = tracer.provider.getTracer('library').startSpan('s', {}, below(input.trace_id, input.parent));
  assert.deepEqual({ sampled: span.isRecording(), flags: span.spanContext().traceFlags }, expected);
});
