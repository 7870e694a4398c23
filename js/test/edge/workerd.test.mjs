// Cloudflare's runtime itself, with the package bundled for it.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';

import { Miniflare } from 'miniflare';

import { startCollector } from '../collector.mjs';
import { CALLER, attributesOf, cases } from '../helpers.mjs';
import { bundled } from './bundle.mjs';

const TRACE = CALLER.slice(3, 35);

/** A service that says what headers it got. */
async function startEcho() {
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(request.headers));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

/** A Worker behind a service binding, which says what headers it got. */
const BACKEND = 'export default { fetch: (request) => Response.json(Object.fromEntries(request.headers)) };';

async function startWorker(define, { flags = ['nodejs_compat'], bindings = {}, entry = 'worker.mjs' } = {}) {
  const { script, wasm } = await bundled(entry, {
    define: { OPTIONS: {}, COLLECTOR: 'http://127.0.0.1:9', ECHO: 'http://127.0.0.1:9', ...define },
  });
  const path = /"\.\/(tracebaton[^"]*\.wasm)"/.exec(script)[1];
  const common = { compatibilityDate: '2026-04-01', compatibilityFlags: flags };
  const miniflare = new Miniflare({
    host: '127.0.0.1',
    port: 0,
    workers: [
      {
        name: 'edge',
        ...common,
        modules: [
          { type: 'ESModule', path: 'worker.js', contents: script },
          { type: 'CompiledWasm', path, contents: wasm },
        ],
        bindings,
        serviceBindings: { BACKEND: 'backend' },
      },
      { name: 'backend', ...common, modules: true, script: BACKEND },
    ],
  });
  const url = await miniflare.ready;
  return {
    json: async (path, headers = {}, init = {}) => {
      const response = await fetch(new URL(path, url), { headers, ...init });
      assert.equal(response.status, 200, path);
      return response.json();
    },
    fetch: (path, init) => fetch(new URL(path, url), init),
    close: () => miniflare.dispose(),
  };
}

describe('workerd', () => {
  let collector;
  let echo;
  let worker;

  before(async () => {
    collector = await startCollector();
    echo = await startEcho();
    worker = await startWorker(
      { COLLECTOR: collector.url, ECHO: echo.url },
      {
        flags: ['nodejs_compat', 'nodejs_compat_do_not_populate_process_env'],
        bindings: { HH_PROJECT: 'from-bindings' },
      },
    );
  });

  after(async () => {
    await worker?.close();
    echo?.close();
    collector?.close();
  });

  const spansOf = (trace) => collector.spans.filter(({ traceId }) => traceId === trace);

  test('a tracer at module scope has no session', async () => {
    assert.deepEqual(await worker.json('/module-scope'), { sessionAtModuleScope: '', isDefault: true });
  });

  test('a request goes on in its caller’s trace and session, and so does what it asks for', async () => {
    const answer = await worker.json('/hop', {
      traceparent: CALLER,
      tracestate: 'a=1,b=2',
      baggage: 'session_id=s-1,plan=gold;p=1',
    });
    assert.equal(answer.doubled, 42);
    assert.equal(answer.session, 's-1');
    assert.equal(answer.outside.traceparent.slice(3, 35), TRACE);
    assert.equal(answer.outside.tracestate, 'a=1,b=2');
    assert.equal(answer.outside.baggage, 'session_id=s-1,source=dev,plan=gold;p=1');
    await collector.until(() => spansOf(TRACE).length === 3);
    const [step, client, server] = ['step', 'GET', 'GET'].map((name, index) =>
      spansOf(TRACE).find((span) => span.name === name && (index === 0 || span.kind === (index === 1 ? 3 : 2))),
    );
    assert.equal(server.parentSpanId, CALLER.slice(36, 52));
    assert.equal(step.parentSpanId, server.spanId);
    assert.equal(client.parentSpanId, server.spanId);
    assert.equal(answer.outside.traceparent.slice(36, 52), client.spanId);
    for (const span of spansOf(TRACE)) {
      assert.equal(span.attributes['honeyhive.session_id'], 's-1');
      assert.equal(span.service, 'edge');
      assert.equal(span.traceState, 'a=1,b=2');
    }
  });

  test('service bindings are called under the outbound policy', async () => {
    const { near, far, session } = await worker.json('/binding', { traceparent: CALLER.replace('0af7', '1af7') });
    assert.match(near.traceparent, /^00-1af7/);
    assert.equal(near.baggage, `session_id=${session},source=dev`);
    assert.match(far.traceparent, /^00-1af7/);
    assert.equal(far.baggage, undefined);
  });

  test('users of one isolate never share a session', async () => {
    const users = Array.from({ length: 60 }, (_, user) => user);
    const answers = await Promise.all(
      users.map((user) => worker.json('/user', user % 2 ? {} : { baggage: `session_id=user-${user}` })),
    );
    const sessions = new Set();
    for (const [user, { before, after, headers }] of answers.entries()) {
      assert.equal(before, after);
      if (user % 2 === 0) assert.equal(before, `user-${user}`);
      else assert.match(before, /^[0-9a-f-]{36}$/);
      assert.match(headers.baggage, new RegExp(`^session_id=${before},`));
      sessions.add(before);
    }
    assert.equal(sessions.size, users.length);
    const traces = new Map(answers.map(({ headers, before }) => [headers.traceparent.slice(3, 35), before]));
    assert.equal(traces.size, users.length);
    await collector.until(() => [...traces.keys()].every((trace) => spansOf(trace).length === 2));
    for (const [trace, session] of traces)
      for (const span of spansOf(trace)) assert.equal(span.attributes['honeyhive.session_id'], session);
  });

  test('200 parallel requests of one trace: no span is lost, doubled or mixed up', async () => {
    const trace = 'c0ffee00000000000000000000000001';
    const count = 200;
    const callers = Array.from({ length: count }, (_, index) => (index + 1).toString(16).padStart(16, '0'));
    const answers = await Promise.all(
      callers.map((caller, index) =>
        worker.json('/hop', {
          traceparent: `00-${trace}-${caller}-01`,
          tracestate: `v=${index}`,
          baggage: `session_id=same,n=${index}`,
        }),
      ),
    );
    for (const [index, { outside }] of answers.entries()) {
      assert.equal(outside.traceparent.slice(3, 35), trace);
      assert.equal(outside.tracestate, `v=${index}`);
      assert.equal(outside.baggage, `session_id=same,source=dev,n=${index}`);
    }
    await collector.until(() => spansOf(trace).length >= 3 * count);
    const spans = spansOf(trace);
    assert.equal(spans.length, 3 * count);
    const ids = new Map(spans.map((span) => [span.spanId, span]));
    assert.equal(ids.size, 3 * count);
    for (const [index, caller] of callers.entries()) {
      const servers = spans.filter(({ parentSpanId }) => parentSpanId === caller);
      assert.equal(servers.length, 1);
      const inner = spans.filter(({ parentSpanId }) => parentSpanId === servers[0].spanId);
      assert.deepEqual(inner.map(({ name }) => name).sort(), ['GET', 'step']);
      for (const span of [...inner, servers[0]]) assert.equal(span.traceState, `v=${index}`);
      assert.ok(inner.some(({ spanId }) => spanId === answers[index].outside.traceparent.slice(36, 52)));
    }
  });

  test('a block with ctx delivers without a wrapper', async () => {
    const { session, headers } = await worker.json('/block');
    const trace = headers.baggage.includes(session) && session;
    await collector.until(() => collector.spans.some(({ attributes }) => attributes['honeyhive.session_id'] === trace));
  });

  test('the order of what happens in one millisecond is kept, and the clock is marked', async () => {
    const trace = 'c0ffee00000000000000000000000002';
    await worker.json('/order', { traceparent: `00-${trace}-00000000000000aa-01` });
    await collector.until(() => spansOf(trace).length === 4);
    const [outer, first, second] = ['outer', 'first', 'second'].map((name) => spansOf(trace).find((it) => it.name === name));
    const time = (text) => BigInt(text);
    const times = [outer.startTimeUnixNano, first.startTimeUnixNano, first.endTimeUnixNano, second.startTimeUnixNano, second.endTimeUnixNano, outer.endTimeUnixNano].map(time);
    for (let index = 1; index < times.length; index++) assert.ok(times[index] > times[index - 1], String(times));
    assert.ok(Math.abs(Number(times[0] / 1_000_000n) - Date.now()) < 60_000);
    assert.equal(first.attributes['tracebaton.clock'], 'frozen');
  });

  test('a span that ends after the response is delivered too', async () => {
    const trace = 'c0ffee00000000000000000000000003';
    await worker.json('/late', { traceparent: `00-${trace}-00000000000000aa-01` });
    await collector.until(() => spansOf(trace).some(({ name }) => name === 'late'));
  });

  test('what a handler throws goes on, and is recorded', async () => {
    const trace = 'c0ffee00000000000000000000000004';
    const response = await worker.fetch('/throws', { headers: { traceparent: `00-${trace}-00000000000000aa-01` } });
    assert.equal(response.status, 500);
    assert.match(await response.text(), /the handler failed/);
    await collector.until(() => spansOf(trace).length === 1);
    assert.equal(spansOf(trace)[0].attributes['honeyhive_error'], 'the handler failed');
  });

  for (const fault of ['call', 'submit', 'poll']) {
    test(`a trap in ${fault} breaks no request, and the next spans arrive`, async () => {
      const trace = `c0ffee0000000000000000000000001${fault.length}`;
      const answer = await worker.json(`/trap?in=${fault}`, { traceparent: `00-${trace}-00000000000000aa-01` });
      assert.deepEqual([answer.before, answer.during, answer.after], [2, 4, 6]);
      await collector.until(() => spansOf(trace).some(({ name, parentSpanId }) => name === 'GET' && parentSpanId === '00000000000000aa'));
      assert.equal(spansOf(trace).filter(({ name }) => name === 'step').at(-1)?.service, 'edge');
      const next = await worker.json('/user', { baggage: 'session_id=after' });
      assert.equal(next.after, 'after');
    });
  }

  test('bindings are configuration, and the same options the same tracer', async () => {
    assert.deepEqual(await worker.json('/env'), { same: true, other: false, project: 'from-bindings' });
  });

  test('the vectors', async () => {
    const all = cases('extract');
    const camel = (policy) =>
      policy && Object.fromEntries(Object.entries(policy).map(([name, value]) => [name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase()), value]));
    const body = JSON.stringify(all.map(({ input }) => ({ carrier: input.carrier, policy: camel(input.policy ?? undefined) })));
    const got = await worker.json('/vectors', {}, { method: 'POST', body });
    assert.equal(got.length, all.length);
    for (const [index, { name, expected }] of all.entries()) {
      const { span, dropped, recorded, sent } = got[index];
      assert.deepEqual(span ?? null, expected.span, name);
      assert.deepEqual(dropped.sort(), [...expected.dropped].sort(), name);
      if (expected.span !== null && (expected.span.flags & 1) === 0) continue;
      assert.equal(recorded.length, 1, name);
      const attributes = attributesOf(recorded[0].attributes);
      assert.equal(attributes['honeyhive.session_id'], expected.session ?? 'own', name);
      assert.equal(attributes['honeyhive.project'] ?? null, expected.project, name);
      assert.ok(sent.baggage.startsWith('session_id='), name);
    }
  });
});

test('workerd: a collector that fails is asked again, within the time of the request', async () => {
  const collector = await startCollector();
  let refused = 0;
  const gate = createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', async () => {
      if (refused++ === 0) return response.writeHead(503, { 'retry-after': '1' }).end();
      const { 'content-type': type, 'content-encoding': coding } = request.headers;
      const headers = { 'content-type': type, ...(coding && { 'content-encoding': coding }) };
      const answer = await fetch(collector.url + request.url, { method: 'POST', headers, body: Buffer.concat(chunks) });
      response.writeHead(answer.status, { 'content-type': 'application/json' }).end(await answer.text());
    });
  });
  gate.listen(0, '127.0.0.1');
  await once(gate, 'listening');
  const worker = await startWorker({ COLLECTOR: `http://127.0.0.1:${gate.address().port}` });
  try {
    await worker.json('/order', { traceparent: CALLER });
    await collector.until(() => collector.spans.length === 4);
    assert.equal(refused, 2);
    // The answer is still on its way to the Worker.
    let stats = await worker.json('/stats');
    while (stats.sent < 4) stats = await worker.json('/stats');
    assert.equal(stats.sent, 4);
    assert.equal(stats.retried, 1);
  } finally {
    await worker.close();
    gate.close();
    collector.close();
  }
});

/** With this flag `AsyncLocalStorage` is there only for who imports it. */
const WITH_ALS = `
import { AsyncLocalStorage } from 'node:async_hooks';
import { useAsyncLocalStorage } from 'tracebaton';
useAsyncLocalStorage(AsyncLocalStorage);
export { default } from './worker.mjs';
`;

for (const [name, flags, entry, holds] of [
  ['without AsyncLocalStorage', [], 'worker.mjs', false],
  ['with nodejs_als', ['nodejs_als'], WITH_ALS, true],
]) {
  test(`workerd ${name}: a session stays its request's`, async () => {
    const collector = await startCollector();
    const worker = await startWorker({ COLLECTOR: collector.url }, { flags, entry });
    try {
      const users = Array.from({ length: 20 }, (_, user) => `user-${user}`);
      const answers = await Promise.all(users.map((user) => worker.json('/user', { baggage: `session_id=${user}` })));
      // After an await nothing is current: then there is no session rather than another's.
      for (const [index, { before, after }] of answers.entries()) {
        assert.equal(before, users[index]);
        assert.equal(after, holds ? users[index] : '');
      }
      await collector.until(() => collector.spans.filter(({ name }) => name === 'step').length === users.length);
      for (const { attributes } of collector.spans) assert.match(attributes['honeyhive.session_id'], /^user-\d+$/);
    } finally {
      await worker.close();
      collector.close();
    }
  });
}
