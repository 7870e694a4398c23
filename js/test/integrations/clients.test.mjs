// Requests that go out, by `http`, `https`, `fetch` and undici: spans, headers under the policy, and the program's semantics.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { createServer } from 'node:http';
import { after, before, beforeEach, test } from 'node:test';

import { context } from '@opentelemetry/api';
import { suppressTracing } from '@opentelemetry/core';
import axios from 'axios';
import { Tracer, enrichSpanContext, injectContextIntoCarrier, withDistributedTraceContext } from 'tracebaton';
import { tracedFetch, wrapFetch } from 'tracebaton/fetch';
import { instrument } from 'tracebaton/instrument';
import * as undici from 'undici';
import * as undici5 from 'undici5';
import * as undici7 from 'undici7';

import { CLIENT, listening, recorded, until } from './support.mjs';

const tracer = Tracer.init({ exporter: 'memory', sessionId: 'own' });
let undo = instrument({ server: false });
let server;
let url;
/** What the server was sent, newest last. */
let seen = [];
let known = 0;

before(async () => {
  server = createServer((request, response) => {
    seen.push(request);
    const { pathname } = new URL(request.url, 'http://x');
    if (pathname === '/redirect') response.writeHead(302, { location: request.headers['x-to'] }).end();
    else if (pathname === '/503') response.writeHead(503).end('no');
    else if (pathname === '/hang') response.flushHeaders();
    else if (pathname === '/never') return;
    else if (pathname === '/cut') {
      response.writeHead(200, { 'content-length': 100 });
      response.write('part', () => response.destroy());
    } else if (pathname === '/slow') {
      response.write('first');
      server.once('go', () => response.end('last'));
    } else response.end('hello');
  });
  url = await listening(server);
});
after(() => {
  undo();
  server.close();
  server.closeAllConnections();
});
beforeEach(() => {
  seen = [];
  known = tracer.recorded().length;
});

/** The CLIENT spans of this test, once there are so many. */
async function clients(count = 1) {
  const found = await until(() => {
    const spans = recorded(tracer).slice(known).filter((span) => span.kind === CLIENT);
    return spans.length >= count && spans;
  }, `${count} CLIENT spans`);
  assert.equal(found.length, count);
  return found;
}

function text(response) {
  return new Promise((resolve, reject) => {
    let all = '';
    response.setEncoding('utf8').on('data', (part) => (all += part)).on('end', () => resolve(all)).on('error', reject);
  });
}

const ways = {
  'http.get': (path) => new Promise((resolve, reject) => http.get(url + path, (response) => resolve(text(response))).on('error', reject)),
  'http.request': (path) => new Promise((resolve, reject) => {
    const { port } = new URL(url);
    http.request({ host: '127.0.0.1', port, path }, (response) => resolve(text(response))).on('error', reject).end();
  }),
  axios: async (path) => (await axios.get(url + path)).data,
  fetch: async (path) => (await fetch(url + path)).text(),
  'undici.request': async (path) => (await undici.request(url + path)).body.text(),
  'undici 5': async (path) => (await undici5.request(url + path)).body.text(),
  'undici 7': async (path) => (await undici7.request(url + path)).body.text(),
  'undici 5 with headers of its own': async (path) => (await undici5.request(url + path, { headers: injectContextIntoCarrier({ accept: '*/*' }) })).body.text(),
  'undici.fetch': async (path) => (await undici.fetch(url + path)).text(),
  tracedFetch: async (path) => (await tracedFetch(url + path)).text(),
};

for (const [name, ask] of Object.entries(ways)) {
  test(`${name}: one span, whose ids go out with the session`, async () => {
    const parent = await tracer.startSpan('work', async (span) => {
      assert.equal(await ask('/a?key=hidden'), 'hello');
      return span;
    });
    const [span] = await clients();
    assert.equal(span.name, 'GET');
    assert.equal(span.parentSpanId, parent.spanContext().spanId);
    assert.equal(span.attributes['http.request.method'], 'GET');
    assert.equal(span.attributes['http.response.status_code'], 200);
    assert.equal(span.attributes['url.full'], `${url}/a`);
    assert.equal(span.attributes['server.address'], '127.0.0.1');
    assert.equal(span.attributes['server.port'], Number(new URL(url).port));
    assert.equal(span.isError, false);
    assert.equal(seen.length, 1);
    const { headers, rawHeaders } = seen[0];
    assert.equal(headers.traceparent, `00-${span.traceId}-${span.spanId}-03`);
    assert.match(headers.baggage, /session_id=own/);
    assert.equal(rawHeaders.filter((text) => text.toLowerCase() === 'traceparent').length, 1);
  });

  test(`${name}: a status of an error`, async () => {
    await ask('/503').catch(() => undefined);
    const [span] = await clients();
    assert.equal(span.attributes['http.response.status_code'], 503);
    assert.equal(span.attributes['error.type'], '503');
    assert.equal(span.isError, true);
  });

  test(`${name}: nobody listens there`, async () => {
    const nobody = createServer();
    const free = await listening(nobody);
    nobody.close();
    await once(nobody, 'close');
    const before = url;
    url = free;
    try {
      await assert.rejects(ask('/'));
    } finally {
      url = before;
    }
    const [span] = await clients();
    assert.equal(span.isError, true);
    assert.equal(span.events.length, 1);
    assert.ok(span.attributes['error.type']);
    assert.equal(span.attributes['http.response.status_code'], undefined);
  });

  test(`${name}: what the program injected itself is replaced, not doubled`, { skip: !['fetch', 'tracedFetch', 'axios'].includes(name) }, async () => {
    await enrichSpanContext('work', {}, async () => {
      const headers = injectContextIntoCarrier({ baggage: 'mine=1' });
      if (name === 'axios') await axios.get(url, { headers });
      else await (name === 'fetch' ? fetch : tracedFetch)(url, { headers });
    });
    const [span] = await clients();
    const sent = seen[0].headersDistinct;
    assert.deepEqual(sent.traceparent, [`00-${span.traceId}-${span.spanId}-03`]);
    assert.match(sent.baggage.join(), /session_id=own.*mine=1/);
    assert.equal(sent.baggage.join().match(/session_id/g).length, 1);
  });
}

test('where tracing is suppressed, nothing is recorded or sent', async () => {
  for (const [name, ask] of Object.entries(ways)) {
    seen = [];
    assert.equal(await context.with(suppressTracing(context.active()), () => ask('/')), 'hello', name);
    if (!name.includes('of its own')) assert.equal(seen[0].headers.traceparent, undefined, name);
  }
  assert.equal(recorded(tracer).length, known);
});

test('a span lasts until the response is read', async () => {
  for (const read of [
    async () => {
      const [response] = await once(http.get(`${url}/slow`), 'response');
      return () => text(response);
    },
    async () => {
      const response = await fetch(`${url}/slow`);
      return () => response.text();
    },
  ]) {
    known = tracer.recorded().length;
    const rest = await read();
    assert.equal(recorded(tracer).slice(known).length, 0);
    server.emit('go');
    assert.equal(await rest(), 'firstlast');
    await clients();
  }
});

test('a response that nobody listens for is read and forgotten, and its span ends', async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  http.get(`${url}/a`, { agent });
  const [response] = await once(http.get(`${url}/b`, { agent }), 'response');
  response.resume();
  await clients(2);
  agent.destroy();
});

test('requests that are given up', async () => {
  const request = http.get(`${url}/never`);
  await once(server, 'request');
  request.on('error', () => undefined).destroy();
  const [first] = await clients();
  assert.equal(first.isError, true);

  known = tracer.recorded().length;
  const controller = new AbortController();
  const asked = fetch(`${url}/never`, { signal: controller.signal });
  await once(server, 'request');
  controller.abort();
  await assert.rejects(asked, { name: 'AbortError' });
  const [second] = await clients();
  assert.equal(second.isError, true);
  assert.equal(second.attributes['error.type'], 'AbortError');
});

test('a response that breaks off', async () => {
  await assert.rejects(ways['http.get']('/cut'), { code: 'ECONNRESET' });
  const [first] = await clients();
  assert.equal(first.isError, true);
  assert.equal(first.attributes['http.response.status_code'], 200);

  known = tracer.recorded().length;
  await assert.rejects(ways.fetch('/cut'));
  const [second] = await clients();
  assert.equal(second.isError, true);
});

test('an error that nobody handles stays one', async () => {
  const { execFileSync } = await import('node:child_process');
  const program = "require('http').get('http://127.0.0.1:1/')";
  const env = { ...process.env, OTEL_TRACES_EXPORTER: 'none' };
  assert.throws(
    () => execFileSync(process.execPath, ['--import', 'tracebaton/register', '-e', program], { env, stdio: 'pipe', cwd: import.meta.dirname ?? new URL('.', import.meta.url).pathname }),
    /ECONNREFUSED|EACCES/,
  );
});

test('a header Host says nothing of where a request goes', async () => {
  const { port } = new URL(url);
  const headers = { host: 'virtual.example:9' };
  const ways = [
    () => http.get({ port, host: '127.0.0.1', headers }),
    () => http.get(url, { headers }),
    () => http.get(new URL(url), { headers: { host: 'virtual.example' } }),
    () => http.get('http://127.0.0.1:9/', { port, headers }),
    () => http.get({ hostname: '127.0.0.1', defaultPort: port, headers }),
  ];
  for (const ask of ways) {
    known = tracer.recorded().length;
    const [response] = await once(ask(), 'response');
    await text(response);
    const [span] = await clients();
    assert.equal(span.attributes['url.full'], `${url}/`);
    assert.equal(span.attributes['server.address'], '127.0.0.1');
    assert.equal(span.attributes['server.port'], Number(port));
  }
});

test('headers that Node writes at once', async () => {
  const { port } = new URL(url);
  for (const headers of [[['host', 'x'], ['x-a', '1'], ['x-a', '2']], ['host', 'x', 'x-a', '1', 'x-a', '2'], { Expect: '100-continue', 'x-a': '1, 2' }]) {
    known = tracer.recorded().length;
    const options = Object.freeze({ port, host: '127.0.0.1', headers: Object.freeze(headers) });
    const request = http.request(options);
    request.end();
    const [response] = await once(request, 'response');
    await text(response);
    const [span] = await clients();
    const { headers: sent } = seen.at(-1);
    assert.equal(sent.traceparent, `00-${span.traceId}-${span.spanId}-03`);
    assert.equal(sent['x-a'], '1, 2');
    assert.equal(span.attributes['url.full'], `${url}/`);
  }
});

test('arguments that are wrong throw as they did, and leave no span', async () => {
  assert.throws(() => http.get('http://[bad'), { code: 'ERR_INVALID_URL' });
  assert.throws(() => http.request({ path: 'a b' }), { code: 'ERR_UNESCAPED_CHARACTERS' });
  assert.throws(() => http.request({ protocol: 'x:' }), { code: 'ERR_INVALID_PROTOCOL' });
  await assert.rejects(fetch('nonsense'), TypeError);
  await assert.rejects(tracedFetch('nonsense'), TypeError);
  assert.equal(recorded(tracer).length, known);
});

test('the functions look as they did', () => {
  assert.equal(http.request.name, 'request');
  assert.equal(http.get.name, 'get');
  assert.equal(tracedFetch.name, 'fetch');
});

test('callbacks run in the context of the program, not in that of the span', async () => {
  await tracer.startSpan('work', async (work) => {
    await new Promise((resolve) => {
      http.get(url, (response) => {
        tracer.startSpan('inner').end();
        response.resume().on('end', resolve);
      });
    });
    const inner = recorded(tracer).find((span) => span.name === 'inner');
    assert.equal(inner.parentSpanId, work.spanContext().spanId);
  });
});

test('the policy: a foreign host gets the trace context, and the session where it is listed', async () => {
  const lookup = (_name, options, callback) => (options.all ? callback(null, [{ address: '127.0.0.1', family: 4 }]) : callback(null, '127.0.0.1', 4));
  const { port } = new URL(url);
  const listed = Tracer.init({ exporter: 'memory', sessionId: 'listed', policy: { propagateTo: ['api.example.com'] } });
  const agent = new undici.Agent({ connect: { lookup } });
  const asks = [
    () => new Promise((resolve) => http.get({ host: 'api.example.com', port, lookup }, (response) => resolve(text(response)))),
    async () => (await undici.fetch(`http://api.example.com:${port}/`, { dispatcher: agent })).text(),
    async () => (await wrapFetch((input, init) => undici.fetch(input, { ...init, dispatcher: agent }))(`http://api.example.com:${port}/`)).text(),
  ];
  for (const ask of asks) {
    seen = [];
    await ask();
    await listed.startSpan('work', ask);
    assert.ok(seen[0].headers.traceparent);
    assert.equal(seen[0].headers.baggage, undefined);
    assert.match(seen[1].headers.baggage, /session_id=listed/);
  }
  // What the header says is no address.
  seen = [];
  await new Promise((resolve) => http.get({ host: 'api.example.com', port, lookup, headers: { host: 'localhost' } }, (response) => resolve(text(response))));
  assert.equal(seen[0].headers.baggage, undefined);
  await agent.close();
});

test('the policy goes by the host that is connected to, whatever the path is', async () => {
  const lookup = (_name, options, callback) => (options.all ? callback(null, [{ address: '127.0.0.1', family: 4 }]) : callback(null, '127.0.0.1', 4));
  const { port } = new URL(url);
  for (const path of ['@localhost/', '.localhost/', '/?to=http://localhost/', '/a']) {
    known = tracer.recorded().length;
    for (const headers of [{}, ['host', 'x']]) {
      const request = http.get({ host: 'api.example.com', port, path, lookup, headers }).on('error', () => undefined);
      await once(request, 'close');
      assert.ok(request.getHeader('traceparent') || Array.isArray(headers), path);
      assert.equal(request.getHeader('baggage'), undefined, path);
      assert.ok(!request._header.includes('session_id'), path);
    }
    const found = await clients(2);
    for (const span of found) assert.equal(span.attributes['server.address'], 'api.example.com');
  }
});

test('a traceparent of the program\'s own, with no span around: there is none of ours, and the session goes along', async () => {
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  for (const ask of [() => fetch(url, { headers: { traceparent } }), () => tracedFetch(url, { headers: { traceparent } }), () => once(http.get(url, { headers: { traceparent } }), 'response')]) {
    seen = [];
    const answer = await ask();
    await (answer.text?.() ?? text(answer[0]));
    assert.equal(seen[0].headers.traceparent, traceparent);
    assert.match(seen[0].headers.baggage, /session_id=own/);
  }
  assert.equal(recorded(tracer).length, known);
});

test('what a proxy passes on of its own caller is replaced', async () => {
  const caller = { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' };
  await withDistributedTraceContext(caller, tracer, () => tracer.startSpan('proxy', async () => (await fetch(url, { headers: caller })).text()));
  const [span] = await clients();
  assert.equal(seen[0].headers.traceparent, `00-0af7651916cd43dd8448eb211c80319c-${span.spanId}-01`);
});

test('what a program has injected further out, or was sent, is replaced however deep it is in spans', async () => {
  const caller = { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' };
  const deep = (left, run) => tracer.startSpan(`depth ${left}`, () => (left > 0 ? deep(left - 1, run) : run()));
  await withDistributedTraceContext(caller, tracer, () =>
    deep(1, () => {
      const own = injectContextIntoCarrier({}, tracer);
      return deep(5, async () => {
        for (const headers of [caller, own]) await (await fetch(url, { headers })).text();
      });
    }),
  );
  assert.equal((await clients(2)).length, 2);
});

test('a redirect: every hop is sent what may go there', async () => {
  const lookup = (_name, options, callback) => callback(null, [{ address: '127.0.0.1', family: 4 }]);
  const agent = new undici.Agent({ connect: { lookup } });
  const { port } = new URL(url);
  const headers = { 'x-to': `http://api.example.com:${port}/a` };
  const fetch = (input, init) => undici.fetch(input, { ...init, dispatcher: agent });
  const wrapped = wrapFetch(fetch);
  const quiet = wrapFetch(fetch, { spans: false });
  for (const [ask, spans, isAlone] of [[fetch, 2, false], [wrapped, 1, false], [wrapped, 1, true], [quiet, 0, true]]) {
    if (isAlone) undo();
    known = tracer.recorded().length;
    seen = [];
    assert.equal(await (await ask(`${url}/redirect`, { headers })).text(), 'hello');
    assert.match(seen[0].headers.baggage, /session_id=own/);
    assert.equal(seen[1].headers.baggage, undefined);
    assert.equal(seen[1].headers.traceparent !== undefined, ask !== quiet);
    await clients(spans);
  }
  undo = instrument({ server: false });
  await agent.close();
});

test('wrapFetch: a Request with its own headers and body', async () => {
  const request = new Request(`${url}/post`, { method: 'post', body: 'text', headers: { 'x-a': '1' } });
  await (await tracedFetch(request)).text();
  assert.equal(seen[0].method, 'POST');
  assert.equal(seen[0].headers['x-a'], '1');
  const [span] = await clients();
  assert.equal(seen[0].headers.traceparent, `00-${span.traceId}-${span.spanId}-03`);
  assert.equal(request.headers.get('traceparent'), null);
});

test('wrapFetch: without spans, the current span goes out', async () => {
  const quiet = wrapFetch(undefined, { spans: false, tracer });
  undo();
  try {
    await tracer.startSpan('work', async (work) => {
      await (await quiet(url)).text();
      assert.equal(seen[0].headers.traceparent, `00-${work.spanContext().traceId}-${work.spanContext().spanId}-03`);
      const carrier = {};
      await withDistributedTraceContext({ baggage: 'session_id=theirs' }, tracer, async () => (await quiet(url)).text());
      assert.match(seen[1].headers.baggage, /session_id=theirs/);
      return carrier;
    });
  } finally {
    undo = instrument({ server: false });
  }
  assert.equal(recorded(tracer).slice(known).filter((span) => span.kind === CLIENT).length, 0);
});

test('arguments of a wrong type name themselves', () => {
  assert.throws(() => wrapFetch(1), { name: 'TypeError', message: 'fetch must be a function, not number' });
  assert.throws(() => wrapFetch(undefined, { spans: 1 }), { name: 'TypeError', message: 'spans must be a boolean, not number' });
  assert.throws(() => instrument({ servers: true }), { name: 'TypeError', message: 'there is no option servers' });
  assert.throws(() => instrument({ tracer: {} }), { name: 'TypeError', message: /tracer must be a Tracer/ });
});
