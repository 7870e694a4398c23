// Requests that come in, through each framework's middleware: the same application, the same answers, the same spans.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, createServer, get, request as ask } from 'node:http';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';

import { serve } from '@hono/node-server';
import express5 from 'express';
import express4 from 'express4';
import Fastify5 from 'fastify';
import Fastify4 from 'fastify4';
import { Hono } from 'hono';
import { streamText } from 'hono/streaming';
import { Tracer, injectContextIntoCarrier } from 'tracebaton';
import { expressErrors, expressMiddleware } from 'tracebaton/express';
import { fastifyPlugin } from 'tracebaton/fastify';
import { honoMiddleware } from 'tracebaton/hono';
import { instrument } from 'tracebaton/instrument';

import { SERVER, listening, recorded, until } from './support.mjs';

const tracer = Tracer.init({ exporter: 'memory', sessionId: 'own' });

/** What handlers of all frameworks do. */
const work = {
  user: async (id) => {
    await turn();
    return { id, span: tracer.startSpan('inner', (span) => span.spanContext().spanId) };
  },
  // In the context of a request, although the body was read before.
  echo: (body) => ({ got: body.text, span: tracer.startSpan('inner', (span) => span.spanContext().spanId) }),
  fail: () => {
    throw new Error('broken');
  },
  refuse: () => {
    throw Object.assign(new Error('not that'), { statusCode: 422, status: 422 });
  },
  async *stream(closed) {
    yield 'first';
    await closed;
    tracer.startSpan('late').end();
    yield 'last';
  },
  session: async () => {
    const id = tracer.createSession({ skipApiCall: true });
    await turn();
    tracer.startSpan('inner').end();
    return { id };
  },
};

/** What an application does that has a session for each request: in middleware of its own, before bodies are read. */
function begin(headers) {
  if (headers['x-session']) tracer.createSession({ sessionId: headers['x-session'], skipApiCall: true });
}

let go;
function express(make) {
  return async (options) => {
    const app = make();
    app.set('env', 'test');
    app.use(expressMiddleware(options), (request, response, next) => (begin(request.headers), next()), make.json());
    const users = make.Router({ mergeParams: true });
    users.get('/posts/:post', (request, response) => response.json({}));
    app.get('/users/:id', async (request, response) => response.json(await work.user(request.params.id)));
    app.use('/users/:id', users);
    app.post('/echo', (request, response) => response.json(work.echo(request.body)));
    app.get('/fail', work.fail);
    app.get('/refuse', work.refuse);
    app.get('/session', async (request, response) => response.json(await work.session()));
    app.get('/stream', async (request, response) => {
      for await (const part of work.stream(go)) response.write(part);
      response.end();
    });
    app.use(expressErrors());
    // What is thrown is answered, not printed.
    app.use((thrown, request, response, _next) => response.status(thrown.statusCode ?? 500).json({ error: thrown.message }));
    const server = createServer(app);
    return { url: await listening(server), close: () => server.close(), server };
  };
}

function fastify(make) {
  return async (options) => {
    const app = make();
    await app.register(fastifyPlugin, options);
    app.addHook('onRequest', (request, reply, done) => (begin(request.headers), done()));
    app.get('/users/:id', (request) => work.user(request.params.id));
    app.register(async (users) => users.get('/posts/:post', async () => ({})), { prefix: '/users/:id' });
    app.post('/echo', async (request) => work.echo(request.body));
    app.get('/fail', async () => work.fail());
    app.get('/refuse', async () => work.refuse());
    app.get('/session', () => work.session());
    app.get('/stream', async (request, reply) => {
      reply.hijack();
      for await (const part of work.stream(go)) reply.raw.write(part);
      reply.raw.end();
    });
    const url = await app.listen({ port: 0, host: '127.0.0.1' });
    return { url, close: () => app.close(), server: app.server };
  };
}

async function hono(options) {
  const app = new Hono();
  app.use(honoMiddleware(options), (c, next) => (begin(c.req.header()), next()));
  app.get('/users/:id', async (c) => c.json(await work.user(c.req.param('id'))));
  const users = new Hono();
  users.get('/posts/:post', (c) => c.json({}));
  app.route('/users/:id', users);
  app.post('/echo', async (c) => c.json(work.echo(await c.req.json())));
  app.get('/fail', work.fail);
  app.get('/refuse', work.refuse);
  app.get('/session', async (c) => c.json(await work.session()));
  app.get('/stream', (c) => streamText(c, async (stream) => {
    for await (const part of work.stream(go)) await stream.write(part);
  }));
  app.onError((thrown, c) => c.json({ error: thrown.message }, thrown.statusCode ?? 500));
  const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' });
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close(), server };
}

/** No middleware at all: what `tracebaton/register` does. */
async function plain() {
  const undo = instrument({ client: false, fetch: false });
  const routes = {
    '/users/7': async () => work.user('7'),
    '/users/7/posts/8': async () => ({}),
    '/session': async () => work.session(),
    '/echo': (request) => new Promise((resolve) => {
      let body = '';
      request.on('data', (part) => (body += part)).on('end', () => resolve(work.echo(JSON.parse(body))));
    }),
  };
  const server = createServer(async (request, response) => {
    begin(request.headers);
    const path = request.url.split('?')[0];
    if (path === '/stream') {
      for await (const part of work.stream(go)) response.write(part);
      return response.end();
    }
    if (path in routes) return response.setHeader('content-type', 'application/json').end(JSON.stringify(await routes[path](request)));
    response.statusCode = { '/fail': 500, '/refuse': 422 }[path] ?? 404;
    response.end('{}');
  });
  const url = await listening(server);
  return { url, close: () => (server.close(), undo()), server };
}

const frameworks = {
  'express 5': express(express5),
  'express 4': express(express4),
  'fastify 5': fastify(Fastify5),
  'fastify 4': fastify(Fastify4),
  hono,
  'no framework': plain,
};

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const CALLER = 'b7ad6b7169203331';
const caller = { traceparent: `00-${TRACE}-${CALLER}-01`, baggage: 'session_id=theirs,other=1' };

for (const [name, start] of Object.entries(frameworks)) {
  describe(name, () => {
    let app;
    let known;
    const hasRoutes = name !== 'no framework';

    before(async () => (app = await start({ tracer })));
    after(() => app.close());
    beforeEach(() => (known = tracer.recorded().length));

    async function spans(count) {
      const found = await until(() => {
        const found = recorded(tracer).slice(known);
        return found.length >= count && found;
      }, `${count} spans`);
      assert.equal(found.length, count);
      return Object.fromEntries(found.map((span) => [span.kind === SERVER ? 'server' : span.name, span]));
    }

    test('goes on in the trace and session of its caller, named after its route', async () => {
      const answer = await (await fetch(`${app.url}/users/7?key=hidden`, { headers: caller })).json();
      const { server, inner } = await spans(2);
      assert.equal(server.traceId, TRACE);
      assert.equal(server.parentSpanId, CALLER);
      assert.equal(server.name, hasRoutes ? 'GET /users/:id' : 'GET');
      assert.equal(server.attributes['http.route'], hasRoutes ? '/users/:id' : undefined);
      assert.equal(server.attributes['http.request.method'], 'GET');
      assert.equal(server.attributes['http.response.status_code'], 200);
      assert.equal(server.attributes['url.path'], '/users/7');
      assert.equal(server.attributes['url.scheme'], 'http');
      assert.equal(server.attributes['server.address'], '127.0.0.1');
      assert.equal(server.attributes['server.port'], Number(new URL(app.url).port));
      assert.equal(server.attributes['client.address'], '127.0.0.1');
      assert.equal(server.attributes.honeyhive_event_type, 'chain');
      assert.equal(server.session, 'theirs');
      assert.equal(inner.session, 'theirs');
      assert.equal(inner.parentSpanId, server.spanId);
      assert.equal(inner.spanId, answer.span);
      assert.ok(!JSON.stringify([server, inner]).includes('hidden'));
    });

    test('without a caller, is a trace of its own in the session of the tracer', async () => {
      await (await fetch(`${app.url}/users/7`)).json();
      const { server, inner } = await spans(2);
      assert.equal(server.parentSpanId ?? '', '');
      assert.equal(inner.traceId, server.traceId);
      assert.equal(server.session, 'own');
    });

    test('a route of a router that is mounted', async () => {
      await (await fetch(`${app.url}/users/7/posts/8`)).json();
      const { server } = await spans(1);
      assert.equal(server.name, hasRoutes ? 'GET /users/:id/posts/:post' : 'GET');
    });

    test('no route', async () => {
      assert.equal((await fetch(`${app.url}/nowhere`)).status, 404);
      const { server } = await spans(1);
      assert.equal(server.name, 'GET');
      assert.equal(server.isError, false);
      assert.equal(server.attributes['http.response.status_code'], 404);
    });

    for (const session of [undefined, 'created']) test(`a handler that reads a body is still in the request${session ? ', and in the session that was created before' : ''}`, async () => {
      const headers = { ...caller, 'content-type': 'application/json', connection: 'close', ...(session && { 'x-session': session }) };
      const post = ask(`${app.url}/echo`, { method: 'POST', headers });
      const came = once(app.server, 'request');
      post.write('{"text":');
      // What comes when the handler waits for it comes from the socket, not from the request's own turn.
      await came;
      await turn();
      await turn();
      post.end('"hello"}');
      const [response] = await once(post, 'response');
      assert.equal(JSON.parse(Buffer.concat(await response.toArray())).got, 'hello');
      const { server, inner } = await spans(2);
      assert.equal(inner.parentSpanId, server.spanId);
      assert.equal(inner.session, session ?? 'theirs');
      assert.equal(server.session, 'theirs');
    });

    test('a handler that throws', async () => {
      assert.equal((await fetch(`${app.url}/fail`)).status, 500);
      const { server } = await spans(1);
      assert.equal(server.isError, true);
      assert.equal(server.attributes['http.response.status_code'], 500);
      if (hasRoutes) {
        assert.equal(server.events.length, 1);
        assert.equal(server.events[0].attributes['exception.message'], 'broken');
        assert.equal(server.attributes['error.type'], 'Error');
        assert.equal(server.attributes.honeyhive_error, 'broken');
      }
    });

    test('a handler that says what is wrong with the request did not fail', async () => {
      assert.equal((await fetch(`${app.url}/refuse`)).status, 422);
      const { server } = await spans(1);
      assert.equal(server.isError, false);
      assert.equal(server.events.length, 0);
    });

    test('a response that is streamed: the span lasts as long', async () => {
      let open;
      go = new Promise((resolve) => (open = resolve));
      const [response] = await once(get(`${app.url}/stream`, { headers: caller }), 'response');
      const [first] = await once(response, 'data');
      assert.equal(String(first), 'first');
      assert.equal(recorded(tracer).length, known);
      open();
      await response.toArray();
      const { server, late } = await spans(2);
      assert.equal(late.parentSpanId, server.spanId);
      assert.equal(server.isError, false);
      assert.ok(BigInt(server.endTimeUnixNano) >= BigInt(late.endTimeUnixNano));
    });

    test('a caller that goes away: the span ends, once', async () => {
      let open;
      go = new Promise((resolve) => (open = resolve));
      const request = get(`${app.url}/stream`);
      const [response] = await once(request, 'response');
      await once(response, 'data');
      request.destroy();
      const { server } = await spans(1);
      assert.equal(server.isError, true);
      assert.equal(server.attributes['error.type'], 'aborted');
      open();
      await spans(2);
    });

    test('200 requests at the same time, each in a session that it creates', async () => {
      const answers = await Promise.all(
        Array.from({ length: 200 }, async () => (await fetch(`${app.url}/session`)).json()),
      );
      assert.equal(new Set(answers.map(({ id }) => id)).size, 200);
      const found = await until(() => {
        const found = recorded(tracer).slice(known);
        return found.length === 400 && found;
      }, '400 spans');
      const servers = new Map(found.filter((span) => span.kind === SERVER).map((span) => [span.spanId, span]));
      const inner = found.filter((span) => span.kind !== SERVER);
      assert.equal(servers.size, 200);
      assert.deepEqual(inner.map((span) => span.session).sort(), answers.map(({ id }) => id).sort());
      assert.equal(new Set(inner.map((span) => span.parentSpanId)).size, 200);
      assert.ok(inner.every((span) => servers.get(span.parentSpanId).traceId === span.traceId));
      assert.ok([...servers.values()].every((span) => span.session === 'own'));
    });

    test('with the policy restart, a trace of its own that is linked with the caller', { skip: !hasRoutes }, async () => {
      const other = await start({ tracer, policy: { inbound: 'restart' } });
      await (await fetch(`${other.url}/users/7`, { headers: caller })).json();
      const { server } = await spans(2);
      assert.notEqual(server.traceId, TRACE);
      assert.equal(server.links[0].spanId, CALLER);
      assert.equal(server.session, 'theirs');
      await other.close();
    });

    test('with sessions, each request has one of its own, unless its caller sent one', { skip: !hasRoutes }, async () => {
      const other = await start({ tracer, sessions: true });
      for (const headers of [{}, {}, caller]) await (await fetch(`${other.url}/users/7`, { headers })).json();
      await until(() => tracer.recorded().length === known + 6);
      const sessions = recorded(tracer).slice(known).filter((span) => span.kind === SERVER).map((span) => span.session);
      assert.equal(new Set(sessions).size, 3);
      assert.equal(sessions[2], 'theirs');
      assert.ok(!sessions.includes('own'));
      await other.close();
    });

    test('without spans, context all the same', { skip: !hasRoutes }, async () => {
      const other = await start({ tracer, spans: false });
      await (await fetch(`${other.url}/users/7`, { headers: caller })).json();
      const { inner, server } = await spans(1);
      assert.equal(server, undefined);
      assert.equal(inner.parentSpanId, CALLER);
      assert.equal(inner.session, 'theirs');
      await other.close();
    });

    test('beside the instrumentation of the server, there is one span', { skip: !hasRoutes }, async () => {
      const undo = instrument({ client: false, fetch: false });
      try {
        await (await fetch(`${app.url}/users/7`, { headers: caller })).json();
        const { server, inner } = await spans(2);
        assert.equal(server.parentSpanId, CALLER);
        assert.equal(inner.parentSpanId, server.spanId);
        assert.equal(server.name, 'GET /users/:id');
        assert.equal((await fetch(`${app.url}/fail`)).status, 500);
        await until(() => tracer.recorded().length === known + 3);
        const failed = recorded(tracer)[known + 2];
        assert.equal(failed.attributes.honeyhive_error, 'broken');
        assert.equal(failed.attributes['error.type'], 'Error');
      } finally {
        undo();
      }
    });
  });
}

for (const [name, start] of [['express', express(express5)], ['no framework', plain]]) {
  test(`${name}: a server that was started inside a span does not have its requests in there`, async () => {
    let app;
    await tracer.startSpan('start', async () => {
      if (name === 'no framework') tracer.createSession({ sessionId: 'startup', skipApiCall: true });
      app = await start({ tracer });
    });
    const known = tracer.recorded().length;
    await (await fetch(`${app.url}/users/7`)).json();
    await until(() => tracer.recorded().length === known + 2);
    const server = recorded(tracer).slice(known).find((span) => span.kind === SERVER);
    assert.equal(server.parentSpanId ?? '', '');
    assert.equal(server.session, 'own');
    app.close();
  });
}

test('listeners of a response run in its request', async () => {
  const undo = instrument({ client: false, fetch: false });
  const known = tracer.recorded().length;
  const server = createServer((request, response) => {
    // What closes it is the connection.
    response.on('close', () => tracer.startSpan('closed').end());
    response.write('first');
  });
  const request = get(await listening(server));
  const [response] = await once(request, 'response');
  await once(response, 'data');
  request.destroy();
  await until(() => tracer.recorded().length === known + 2);
  const [span, closed] = recorded(tracer).slice(known);
  assert.equal(closed.parentSpanId, span.spanId);
  server.close();
  undo();
});

test('Hono without Node around it: the span lasts until a stream was read, or given up', async () => {
  const app = new Hono();
  app.use(honoMiddleware({ tracer }));
  app.get('/plain', (c) => c.text('hello'));
  app.get('/stream', (c) => streamText(c, async (stream) => {
    await stream.write('first');
    await go;
    await stream.write('last');
  }));
  const known = tracer.recorded().length;
  assert.equal(await (await app.request('/plain')).text(), 'hello');
  assert.equal(tracer.recorded().length, known + 1);

  let open;
  go = new Promise((resolve) => (open = resolve));
  const response = await app.request('/stream');
  const reader = response.body.getReader();
  assert.equal(new TextDecoder().decode((await reader.read()).value), 'first');
  assert.equal(tracer.recorded().length, known + 1);
  open();
  assert.equal(new TextDecoder().decode((await reader.read()).value), 'last');
  assert.equal((await reader.read()).done, true);
  assert.equal(tracer.recorded().length, known + 2);

  const other = (await app.request('/stream')).body.getReader();
  await other.read();
  await other.cancel();
  const [plain, streamed, aborted] = recorded(tracer).slice(known);
  assert.deepEqual([plain, streamed, aborted].map((span) => [span.name, span.isError]), [['GET /plain', false], ['GET /stream', false], ['GET /stream', true]]);
});

test('a server is as it was: listeners, return values, errors', async () => {
  const undo = instrument({ client: false, fetch: false });
  const server = createServer();
  assert.equal(server.emit('request', {}), false);
  assert.equal(server.emit('nothing'), false);
  const thrown = new Error('in the listener');
  server.on('request', () => {
    throw thrown;
  });
  assert.throws(() => server.emit('request', { headers: {}, rawHeaders: [], on() {} }, { once() {}, on() {} }), (error) => error === thrown);
  assert.equal(Object.hasOwn(server, 'emit'), false);
  undo();
  assert.equal(Object.hasOwn(Object.getPrototypeOf(server), 'emit'), false);
});

test('options of a wrong type or name are named', () => {
  for (const make of [expressMiddleware, honoMiddleware, (options) => fastifyPlugin({ addHook() {} }, options, () => undefined)]) {
    assert.throws(() => make({ tracer: {} }), { name: 'TypeError', message: /tracer must be a Tracer, not Object/ });
    assert.throws(() => make({ spans: 1 }), { name: 'TypeError', message: 'spans must be a boolean, not number' });
    assert.throws(() => make({ polizy: {} }), { name: 'TypeError', message: 'there is no option polizy' });
    assert.throws(() => make({ policy: { inbund: 1 } }), { name: 'TypeError', message: /inbund/ });
  }
});

for (const [name, make] of Object.entries({ 'express 5': express5, 'express 4': express4 })) {
  test(`${name}: parameters that have the same value, or read like what is fixed`, async () => {
    const app = make();
    app.use(expressMiddleware({ tracer }));
    const answer = (request, response) => response.end();
    app.use('/api/:tenant', make.Router({ mergeParams: true }).get('/u/:id', answer));
    app.use('/of/:org/:team', make.Router({ mergeParams: true }).get('/', answer));
    const server = createServer(app);
    const url = await listening(server);
    try {
      for (const [path, route] of [
        ['/api/t/u/5', '/api/:tenant/u/:id'],
        ['/api/u/u/u', '/api/:tenant/u/:id'],
        ['/api/5/u/5', '/api/:tenant/u/:id'],
        ['/api/api/u/5', '/api/:tenant/u/:id'],
        ['/of/a/a', '/of/:org/:team'],
        ['/of/of/of', '/of/:org/:team'],
      ]) {
        const known = recorded(tracer).length;
        await (await fetch(url + path)).text();
        await until(() => recorded(tracer).length > known, 'a span');
        assert.equal(recorded(tracer)[known].attributes['http.route'], route, path);
      }
    } finally {
      server.close();
    }
  });

  test(`${name}: a session that a handler creates does not come to the next request of the connection`, async () => {
    const app = make();
    app.get('/login', (request, response) => response.end(tracer.createSession({ sessionId: 'alice', skipApiCall: true })));
    app.get('/health', (request, response) => response.end(injectContextIntoCarrier({}, tracer).baggage));
    const server = createServer(app);
    const url = await listening(server);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    try {
      for (const [path, expected] of [['/health', /session_id=own/], ['/login', /^alice$/], ['/health', /session_id=own/]]) {
        const [response] = await once(get(url + path, { agent }), 'response');
        assert.match(Buffer.concat(await response.toArray()).toString(), expected);
      }
    } finally {
      agent.destroy();
      server.close();
    }
  });
}
