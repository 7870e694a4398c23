// A Lambda function in one warm process: each invocation in its own trace and session, delivered before it returns.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';

import { context, trace } from '@opentelemetry/api';
import { Tracer } from 'tracebaton';
import { lambdaCarrier, lambdaHandler } from 'tracebaton/lambda';

import { Collector, SERVER } from './support.mjs';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const CALLER = 'b7ad6b7169203331';
const headers = { Traceparent: `00-${TRACE}-${CALLER}-01`, Baggage: 'session_id=theirs', Host: 'api.example.com:8443', 'User-Agent': 'curl' };
const about = { functionName: 'agent', awsRequestId: 'r-1', invokedFunctionArn: 'arn:aws:lambda:eu:1:function:agent', getRemainingTimeInMillis: () => 5_000 };

const events = {
  'API Gateway, payload 1.0': { httpMethod: 'GET', path: '/chat', headers, multiValueHeaders: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value]])), requestContext: {} },
  'API Gateway, payload 2.0': { version: '2.0', rawPath: '/chat', headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value])), requestContext: { http: { method: 'GET' } } },
  'load balancer': { httpMethod: 'GET', path: '/chat', headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value])), requestContext: { elb: {} } },
  'load balancer with several values': { httpMethod: 'GET', path: '/chat', multiValueHeaders: { ...Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), [value]])), baggage: ['session_id=theirs', 'more=1'] }, requestContext: { elb: {} } },
};

let collector;
let tracer;

before(async () => {
  collector = await Collector.start();
  // Batches that would come long after.
  tracer = Tracer.init({ exporter: 'otlp', otlpEndpoint: collector.url, otlpProtocol: 'http/json', sessionId: 'own', flushInterval: 60 });
});
after(() => collector.close());
beforeEach(() => (collector.spans = []));

for (const [name, event] of Object.entries(events)) {
  test(`${name}: goes on in the trace and session of the caller`, async () => {
    const handler = lambdaHandler(async (given, context) => {
      assert.equal(given, event);
      assert.equal(context, about);
      tracer.startSpan('inner').end();
      return { statusCode: 200, body: 'ok' };
    }, { tracer });
    assert.deepEqual(await handler(event, about), { statusCode: 200, body: 'ok' });
    // What has ended is there already.
    const [inner, server] = collector.spans;
    assert.equal(collector.spans.length, 2);
    assert.equal(server.kind, SERVER);
    assert.equal(server.name, 'agent');
    assert.equal(server.traceId, TRACE);
    assert.equal(server.parentSpanId, CALLER);
    assert.equal(inner.parentSpanId, server.spanId);
    assert.equal(inner.session, 'theirs');
    assert.equal(server.session, 'theirs');
    assert.deepEqual(Object.fromEntries(Object.entries(server.attributes).filter(([key]) => !key.startsWith('honeyhive') && key !== 'session.id')), {
      'faas.invocation_id': 'r-1',
      'cloud.resource_id': 'arn:aws:lambda:eu:1:function:agent',
      'http.request.method': 'GET',
      'url.path': '/chat',
      'user_agent.original': 'curl',
      'server.address': 'api.example.com',
      'server.port': 8443,
      'http.response.status_code': 200,
    });
  });
}

test('warm starts never share a session', async () => {
  const handler = lambdaHandler(async ({ create }) => {
    if (create) tracer.createSession({ sessionId: 'created', skipApiCall: true });
    tracer.startSpan('inner').end();
  }, { tracer });
  for (const event of [{}, { create: true }, {}, events['load balancer'], {}]) await handler(event, about);
  const sessions = collector.spans.filter((span) => span.name === 'inner').map((span) => span.session);
  assert.equal(sessions[1], 'created');
  assert.equal(sessions[3], 'theirs');
  assert.equal(new Set(sessions).size, 5);
  assert.ok(!sessions.includes('own'));
  assert.equal(new Set(collector.spans.map((span) => span.traceId)).size, 5);
});

test('a session that a cold start left current is not the invocations\'', async () => {
  await (async () => {
    tracer.createSession({ sessionId: 'cold', skipApiCall: true });
    await lambdaHandler(async () => tracer.startSpan('inner').end(), { tracer })({}, about);
  })();
  assert.notEqual(collector.spans[0].session, 'cold');
});

test('what is thrown goes on, and is recorded', async () => {
  const thrown = new TypeError('broken');
  for (const handler of [
    async () => { throw thrown; },
    () => { throw thrown; },
    (event, context, callback) => { callback(thrown); },
  ]) {
    collector.spans = [];
    const wrapped = lambdaHandler(handler, { tracer });
    assert.equal(wrapped.length, handler.length);
    if (handler.length < 3) await assert.rejects(wrapped({}, about), (error) => error === thrown);
    else await new Promise((resolve) => wrapped({}, about, (error) => resolve(assert.equal(error, thrown))));
    const [span] = collector.spans;
    assert.equal(collector.spans.length, 1);
    assert.equal(span.isError, true);
    assert.equal(span.attributes.honeyhive_error, 'broken');
    assert.equal(span.attributes['error.type'], 'TypeError');
  }
});

test('a handler with a callback', async () => {
  const handler = lambdaHandler((event, context, callback) => {
    setImmediate(() => {
      tracer.startSpan('inner').end();
      callback(null, { statusCode: 503 });
    });
  }, { tracer });
  const result = await new Promise((resolve, reject) => {
    const returned = handler({}, about, (error, value) => (error ? reject(error) : resolve(value)));
    assert.equal(returned, undefined);
  });
  assert.deepEqual(result, { statusCode: 503 });
  const [inner, server] = collector.spans;
  assert.equal(inner.parentSpanId, server.spanId);
  assert.equal(server.isError, true);
});

test('delivery never takes longer than the invocation has left', async () => {
  const nobody = Tracer.init({ exporter: 'otlp', otlpEndpoint: 'http://127.0.0.1:1', otlpProtocol: 'http/json', flushInterval: 60 });
  const asked = [];
  nobody.flush = async (limit) => asked.push(limit);
  const handler = (options, left) => lambdaHandler(async () => 'done', { tracer: nobody, ...options })({}, { getRemainingTimeInMillis: () => left });
  await handler({}, 60_000);
  await handler({}, 1_000);
  await handler({}, 50);
  await handler({ flushMillis: 300 }, 60_000);
  assert.equal(await lambdaHandler(async () => 'done', { tracer: nobody })({}), 'done');
  assert.deepEqual(asked, [2_000, 900, 0, 300, 2_000]);
});

test('where an instrumentor has made the span of the invocation, there is one', async () => {
  const theirs = tracer.provider.getTracer('aws-lambda').startSpan('theirs', { kind: 1 });
  await context.with(trace.setSpan(context.active(), theirs), () => lambdaHandler(async () => tracer.startSpan('inner').end(), { tracer })({}, about));
  theirs.end();
  await tracer.flush();
  const [inner] = collector.spans;
  assert.equal(collector.spans.length, 2);
  assert.equal(inner.parentSpanId, theirs.spanContext().spanId);
});

test('events of other sources have no headers', () => {
  for (const event of [undefined, null, 1, 'text', [], {}, { Records: [] }, { headers: null }, { headers: 'x' }]) assert.deepEqual(lambdaCarrier(event), {});
});

test('arguments of a wrong type or name are named', () => {
  assert.throws(() => lambdaHandler(1), { name: 'TypeError', message: 'handler must be a function, not number' });
  assert.throws(() => lambdaHandler(() => 1, { flushMillis: '1' }), { name: 'TypeError', message: /flushMillis/ });
  assert.throws(() => lambdaHandler(() => 1, { flush: 1 }), { name: 'TypeError', message: 'there is no option flush' });
});
