// Beside OpenTelemetry: an SDK that was there first, its context manager, its instrumentations.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';

import * as api from '@opentelemetry/api';
import { ExpressInstrumentation } from '@opentelemetry/instrumentation-express';
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http';
import { UndiciInstrumentation } from '@opentelemetry/instrumentation-undici';
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node';

import {
  TracebatonPropagator,
  enrichSpanContext,
  injectContextIntoCarrier,
  withDistributedTraceContext,
} from '../dist/esm/index.mjs';
import { CALLER, makeTracer, spansOf } from './helpers.mjs';

const require = createRequire(import.meta.url);
const tick = () => new Promise((resolve) => setImmediate(resolve));

// The SDK comes first: its context manager holds, and ours is not registered.
const exporter = new InMemorySpanExporter();
const sdk = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
sdk.register();

describe('an SDK that is registered already', () => {
  test('keeps its context manager, and a propagator that somebody chose', () => {
    makeTracer();
    assert.notEqual(api.context._getContextManager().constructor.name, 'OwnContextManager');
    // What the SDK sets where nobody says anything carries no session.
    assert.ok(api.propagation._getGlobalPropagator() instanceof TracebatonPropagator);
    const chosen = { inject() {}, extract: (context) => context, fields: () => [] };
    api.propagation.disable();
    api.propagation.setGlobalPropagator(chosen);
    makeTracer();
    assert.equal(api.propagation._getGlobalPropagator(), chosen);
  });

  test('spans of both are parents of each other', () => {
    const tracer = makeTracer();
    sdk.getTracer('sdk').startActiveSpan('theirs', (theirs) => {
      tracer.startSpan('ours', () => sdk.getTracer('sdk').startSpan('inner').end());
      theirs.end();
    });
    const [inner, theirs] = exporter.getFinishedSpans();
    const [ours] = spansOf(tracer);
    assert.equal(ours.parentSpanId, theirs.spanContext().spanId);
    assert.equal(inner.parentSpanContext?.spanId ?? inner.parentSpanId, ours.spanId);
    assert.equal(inner.spanContext().traceId, ours.traceId);
  });

  test('two requests in flight stay apart under its context manager, created sessions too', async () => {
    const tracer = makeTracer();
    const request = async (number) => {
      await tick();
      await withDistributedTraceContext({ baggage: `session_id=s${number}` }, tracer, async () => {
        await tick();
        assert.match(injectContextIntoCarrier({}).baggage, new RegExp(`^session_id=s${number},`));
        await enrichSpanContext({ eventName: `n${number}`, tracer }, tick);
        tracer.createSession({ sessionId: `created ${number}` });
        await tick();
        tracer.startSpan(`n${number}`).end();
      });
    };
    await Promise.all(Array.from({ length: 50 }, (_, number) => request(number)));
    for (const { name, session } of spansOf(tracer))
      assert.ok([`s${name.slice(1)}`, `created ${name.slice(1)}`].includes(session));
    assert.equal(spansOf(tracer).length, 100);
  });

  test('our propagator serves an application that stays on the SDK', () => {
    const propagator = new TracebatonPropagator();
    const context = propagator.extract(
      api.ROOT_CONTEXT,
      { Traceparent: CALLER, baggage: 'a=1;p,b=%20' },
      api.defaultTextMapGetter,
    );
    const span = sdk.getTracer('sdk').startSpan('s', {}, context);
    assert.equal(span.spanContext().traceId, CALLER.split('-')[1]);
    let baggage = api.propagation.getBaggage(context);
    assert.equal(baggage.getEntry('b').value, ' ');
    assert.equal(baggage.getEntry('a').metadata.toString(), 'p');
    baggage = baggage.setEntry('c', { value: 'ü' });
    const carrier = {};
    propagator.inject(
      api.propagation.setBaggage(api.trace.setSpan(context, span), baggage),
      carrier,
      api.defaultTextMapSetter,
    );
    assert.match(carrier.traceparent, new RegExp(`^00-${CALLER.split('-')[1]}-${span.spanContext().spanId}-0`));
    assert.ok(carrier.baggage.includes('a=1;p,b=%20') && carrier.baggage.includes('c=%C3%BC'), carrier.baggage);
    const set = [];
    propagator.inject(context, set, { set: (to, key, value) => to.push([key, value]) });
    assert.deepEqual(
      set.map(([key]) => key),
      ['traceparent', 'baggage'],
    );
    const got = propagator.extract(api.ROOT_CONTEXT, null, {
      get: (_, key) => (key === 'traceparent' ? [CALLER] : undefined),
      keys: () => [],
    });
    assert.equal(api.trace.getSpanContext(got).spanId, CALLER.split('-')[2]);
  });
});

describe('baggage', () => {
  const propagator = new TracebatonPropagator();
  const sent = (context, tracer) => api.context.with(context, () => injectContextIntoCarrier({}, tracer).baggage);

  test('what came in is added to what the application has', () => {
    const own = api.propagation.createBaggage({ a: { value: '1' } });
    const context = propagator.extract(api.propagation.setBaggage(api.ROOT_CONTEXT, own), { baggage: 'k1=x;p,k2=y' });
    const baggage = api.propagation.getBaggage(context);
    assert.deepEqual(
      ['a', 'k1', 'k2', 'k3'].map((name) => baggage.getEntry(name)?.value),
      ['1', 'x', 'y', undefined],
    );
    assert.deepEqual(
      baggage.getAllEntries().map(([name]) => name),
      ['a', 'k1', 'k2'],
    );
    const members = sent(context, makeTracer()).split(',');
    assert.deepEqual(members.slice(2).sort(), ['a=1', 'k1=x;p', 'k2=y']);
  });

  test('changes of the application hold; the rest stays as it came', () => {
    const context = propagator.extract(api.ROOT_CONTEXT, { baggage: 'k1=x;p,k2=y,k3=%7a' });
    const changed = api.propagation.getBaggage(context).setEntry('k2', { value: 'new' }).removeEntry('k1');
    assert.equal(
      sent(api.propagation.setBaggage(context, changed), makeTracer()),
      'session_id=own,source=test,k2=new,k3=%7a',
    );
  });

  test('deleted baggage is not sent', () => {
    const tracer = makeTracer();
    const own = api.propagation.createBaggage({ a: { value: '1' } });
    const extracted = [
      propagator.extract(api.ROOT_CONTEXT, { traceparent: CALLER, baggage: 'k=v' }),
      propagator.extract(api.propagation.setBaggage(api.ROOT_CONTEXT, own), { baggage: 'k=v' }),
    ];
    for (const context of extracted) {
      assert.match(sent(context, tracer), /k=v/);
      const without = api.propagation.deleteBaggage(context);
      assert.equal(sent(without, tracer), 'session_id=own,source=test');
      api.context.with(without, () =>
        tracer.withSession({ sessionId: 'another' }, () =>
          assert.equal(injectContextIntoCarrier({}, tracer).baggage, 'session_id=another,source=test'),
        ),
      );
    }
    // A context by hand never had any: what the span knows goes on.
    const span = tracer.provider.getTracer('x').startSpan('s', {}, extracted[0]);
    assert.match(sent(api.trace.setSpan(api.ROOT_CONTEXT, span), tracer), /k=v/);
    // Nor has one with a session alone.
    const alone = propagator.extract(api.ROOT_CONTEXT, { baggage: 'session_id=theirs' });
    assert.match(sent(alone, tracer), /session_id=theirs/);
  });

  test('each tracer sends its own session in the same context', () => {
    const context = propagator.extract(api.ROOT_CONTEXT, { traceparent: CALLER, baggage: 'k=v' });
    const [one, two] = [makeTracer({ sessionId: 'one' }), makeTracer({ sessionId: 'two' })];
    for (let n = 0; n < 2; n++) {
      assert.equal(sent(context, one), 'session_id=one,source=test,k=v');
      assert.equal(sent(context, two), 'session_id=two,source=test,k=v');
    }
  });
});

describe('instrumentations', () => {
  test('http, express and undici: one tree over real hops', async () => {
    const tracer = makeTracer();
    const instrumentations = [new HttpInstrumentation(), new ExpressInstrumentation(), new UndiciInstrumentation()];
    for (const one of instrumentations) {
      one.setTracerProvider(tracer.provider);
      one.enable();
    }
    api.propagation.disable();
    api.propagation.setGlobalPropagator(new TracebatonPropagator({ tracer }));
    const http = require('node:http');
    const express = require('express');
    const app = express();
    app.get('/far', (request, response) => response.json(request.headers));
    app.get('/near', async (request, response) => {
      const { port } = server.address();
      const far = await fetch(`http://127.0.0.1:${port}/far`);
      response.json(await far.json());
    });
    const server = app.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const body = await tracer.withSession({ sessionId: 'hops' }, () =>
      enrichSpanContext({ eventName: 'client', tracer }, async () => {
        const [response] = await once(http.get(`http://127.0.0.1:${server.address().port}/near`), 'response');
        const chunks = [];
        for await (const chunk of response) chunks.push(chunk);
        return JSON.parse(Buffer.concat(chunks).toString());
      }),
    );
    server.closeAllConnections();
    server.close();
    assert.match(body.baggage, /^session_id=hops,/);
    await tick();
    const spans = spansOf(tracer);
    const ids = new Set(spans.map(({ traceId }) => traceId));
    assert.equal(ids.size, 1, JSON.stringify(spans.map(({ name, traceId }) => [name, traceId])));
    const byId = new Map(spans.map((span) => [span.spanId, span]));
    const roots = spans.filter(({ parentSpanId }) => !byId.has(parentSpanId));
    assert.deepEqual(
      roots.map(({ name }) => name),
      ['client'],
    );
    for (const { session } of spans) assert.equal(session, 'hops');
    // Client, its request, the server, its handler, the second request, that server, its handler.
    assert.ok(spans.length >= 6, spans.map(({ name }) => name).join());
    for (const one of instrumentations) one.disable();
  });
});
