// Beside OpenTelemetry: its instrumentations with our provider, its SDK with its own, in any order. Never two spans for one
// thing, and one tree.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, afterEach, before, beforeEach, test } from 'node:test';

import { CLIENT, Collector, INTERNAL, Program, SERVER, listening, until } from './support.mjs';

const REGISTER = ['--import', 'tracebaton/register'];
const OTEL = ['--require', './programs/otel.cjs'];
const TRACE = '0af7651916cd43dd8448eb211c80319c';
const caller = (n = 1) => ({ traceparent: `00-${TRACE.slice(1)}${n}-b7ad6b716920333${n}-01`, baggage: `session_id=theirs-${n}` });

let collector;
let leaf;
/** The headers of the requests that arrived at the other server. */
let seen;
let programs;

before(async () => {
  collector = await Collector.start();
  leaf = createServer((request, response) => {
    seen.push({ path: request.url, ...request.headersDistinct });
    response.end('leaf');
  });
  leaf.url = await listening(leaf);
});
after(() => {
  collector.close();
  leaf.close();
  leaf.closeAllConnections();
});
beforeEach(() => {
  seen = [];
  programs = [];
  collector.spans = [];
});
afterEach(() => Promise.all(programs.map((program) => program.stop())));

async function serve(options, env) {
  const program = await Program.serve('app.cjs', { collector, service: 'app', options, env: { LEAF: leaf.url, ...env } });
  programs.push(program);
  return program;
}

/** Asks, and waits for the spans of the trace that are there in the end. */
async function ask(program, count, path = '/tasks/1', headers = caller()) {
  const response = await fetch(program.url + path, { headers });
  assert.deepEqual(await response.json(), ['leaf', 'leaf']);
  await collector.wait(count);
  // What would be too many comes with the same batch, or with the next request's.
  await program.stop();
  assert.equal(collector.spans.length, count, collector.spans.map((span) => `${span.kind} ${span.name}`).join(', '));
  assert.equal(program.errors, '');
  return collector.spans;
}

/** One server span under the caller, one client span for each request that went out, and the ids of those went out. */
function checkHops(spans, { session } = {}) {
  const [server, ...others] = spans.filter((span) => span.kind === SERVER);
  assert.equal(others.length, 0);
  assert.equal(server.parentSpanId, 'b7ad6b7169203331');
  const traceId = `${TRACE.slice(1)}1`;
  assert.ok(spans.every((span) => span.traceId === traceId));
  const ids = new Set(spans.map((span) => span.spanId));
  for (const span of spans) assert.ok(span === server || ids.has(span.parentSpanId), `${span.name} has no parent`);
  const clients = spans.filter((span) => span.kind === CLIENT);
  assert.equal(clients.length, 2);
  for (const client of clients) {
    const [there] = seen.filter((headers) => headers.traceparent.join().includes(client.spanId));
    assert.equal(there.traceparent.length, 1);
    assert.match(there.traceparent[0], new RegExp(`^00-${traceId}-${client.spanId}-0[13]$`));
    if (session) assert.match(there.baggage?.join() ?? '', new RegExp(`session_id=${session}`));
  }
  return { server, clients };
}

test('http, undici and express of OpenTelemetry, with our provider', async () => {
  const program = await serve(OTEL, { OURS: 1 });
  const spans = await ask(program, 4);
  const { server } = checkHops(spans, { session: 'theirs-1' });
  assert.ok(spans.every((span) => span.session === 'theirs-1'));
  assert.equal(server.name, 'GET /tasks/:id');
  assert.match(spans.find((span) => span.kind === INTERNAL).name, /^request handler/);
});

const orders = {
  before: [...OTEL, ...REGISTER],
  after: [...REGISTER, '--import', './programs/otel.cjs'],
};
for (const [order, options] of Object.entries(orders)) {
  test(`the same instrumentations set up ${order} tracebaton/register`, async () => {
    const spans = await ask(await serve(options), 4);
    checkHops(spans, { session: 'theirs-1' });
  });

  test(`the same instrumentations set up ${order} tracebaton/register, and the middleware`, async () => {
    const spans = await ask(await serve(options, { MIDDLEWARE: 1 }), 6);
    checkHops(spans, { session: 'theirs-1' });
  });
}

test('an SDK that is registered, with its instrumentations: our spans and its spans are one tree', async () => {
  const program = await serve(OTEL, { SDK: 1, MIDDLEWARE: 1 });
  const spans = await ask(program, 6);
  const { server } = checkHops(spans, { session: 'theirs-1' });
  const inner = spans.find((span) => span.name === 'inner-1');
  assert.equal(inner.session, 'theirs-1');
  // The SDK's spans are the SDK's.
  assert.equal(server.session, undefined);
  assert.equal(server.name, 'GET /tasks/:id');
});

test('an SDK that is registered, and tracebaton/register', async () => {
  const program = await serve([...OTEL, ...REGISTER], { SDK: 1, MIDDLEWARE: 1 });
  const spans = await ask(program, 6);
  checkHops(spans, { session: 'theirs-1' });
});

test('an SDK without instrumentations, and tracebaton/register', async () => {
  const program = await serve([...OTEL, ...REGISTER], { SDK: 1, BARE: 1, MIDDLEWARE: 1 });
  const spans = await ask(program, 4);
  const { server } = checkHops(spans, { session: 'theirs-1' });
  assert.equal(server.session, 'theirs-1');
});

for (const [what, options, env] of [
  ['an SDK and its context manager', OTEL, { SDK: 1 }],
  ['an SDK and tracebaton/register', [...OTEL, ...REGISTER], { SDK: 1 }],
  ['tracebaton/register alone', REGISTER, {}],
]) {
  test(`${what}: two requests in flight stay apart`, async () => {
    const program = await serve(options, { ...env, MIDDLEWARE: 1 });
    const get = (n, query) => fetch(`${program.url}/tasks/${n}?together=2${query}`, { headers: query ? {} : caller(n) }).then((response) => response.json());
    await Promise.all([get(1, ''), get(2, '')]);
    await Promise.all([get(3, '&session=new'), get(4, '&session=new')]);
    await until(() => collector.spans.filter((span) => span.name.startsWith('inner-')).length === 4);
    const inner = (n) => collector.spans.find((span) => span.name === `inner-${n}`);
    for (const n of [1, 2]) {
      assert.equal(inner(n).traceId, `${TRACE.slice(1)}${n}`);
      assert.equal(inner(n).session, `theirs-${n}`);
    }
    for (const n of [3, 4]) assert.equal(inner(n).session, `session-${n}`);
    assert.notEqual(inner(3).traceId, inner(4).traceId);
    for (const n of [1, 2, 3, 4]) {
      const { traceId, session } = inner(n);
      const sent = seen.filter((headers) => headers.traceparent[0].includes(traceId));
      assert.deepEqual(sent.map(({ path }) => path).sort(), ['/fetch', '/http']);
      for (const { baggage } of sent) assert.match(baggage.join(), new RegExp(`session_id=${session}`));
    }
    assert.equal(program.errors, '');
  });
}

test('Fastify with its own instrumentation, on our provider, and our plugin: one server span', async () => {
  const program = await Program.serve('fastify.cjs', { collector, service: 'app', options: ['--require', './programs/otel.cjs'], env: { OURS: 1 } });
  programs.push(program);
  assert.deepEqual(await (await fetch(`${program.url}/users/7`, { headers: caller() })).json(), { id: '7' });
  await until(() => collector.spans.some((span) => span.kind === SERVER));
  await program.stop();
  const servers = collector.spans.filter((span) => span.kind === SERVER);
  assert.deepEqual(servers.map((span) => [span.name, span.parentSpanId, span.session]), [['GET /users/:id', 'b7ad6b7169203331', 'theirs-1']]);
  const ids = new Set(collector.spans.map((span) => span.spanId));
  assert.ok(collector.spans.every((span) => span === servers[0] || ids.has(span.parentSpanId)));
  const inner = collector.spans.find((span) => span.name === 'inner');
  assert.equal(inner.session, 'theirs-1');
  assert.equal(program.errors, '');
});
