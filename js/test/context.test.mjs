// Context through everything that is asynchronous, and sessions that never mix.
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { Agent, createServer, get } from 'node:http';
import { Readable, Transform } from 'node:stream';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';

import {
  bind,
  bindIterator,
  bindStream,
  contextCarrier,
  enrichSpanContext,
  extractContextFromCarrier,
  getTracer,
  injectContextIntoCarrier,
  withDistributedTraceContext,
} from '../dist/esm/index.mjs';
import { CALLER, makeTracer, onlySpan, spansOf } from './helpers.mjs';

const tick = () => new Promise((resolve) => setImmediate(resolve));
const sentSession = (tracer) => /session_id=([^,]*)/.exec(injectContextIntoCarrier({}, tracer).baggage)[1];

describe('context goes', () => {
  const traceId = CALLER.split('-')[1];
  const inTrace = (fn) => withDistributedTraceContext({ traceparent: CALLER }, makeTracer(), fn);
  const here = () => injectContextIntoCarrier({}).traceparent?.split('-')[1];

  test('through promises, timers and microtasks', async () => {
    await inTrace(async () => {
      await tick();
      assert.equal(here(), traceId);
      await Promise.all([
        Promise.resolve().then(() => assert.equal(here(), traceId)),
        new Promise((done) => setTimeout(done, 1)),
      ]);
      assert.equal(await new Promise((resolve) => process.nextTick(() => resolve(here()))), traceId);
      assert.equal(await new Promise((resolve) => queueMicrotask(() => resolve(here()))), traceId);
    });
    assert.equal(here(), undefined);
  });

  test('and is undone after a throw', () => {
    assert.throws(
      () =>
        inTrace(() => {
          throw new Error('x');
        }),
      /x/,
    );
    assert.equal(here(), undefined);
  });

  test('through bound functions, emitters and listeners that are taken off again', () => {
    const emitter = new EventEmitter();
    const seen = [];
    const listener = () => seen.push(here());
    const bound = inTrace(() => {
      bind(emitter);
      emitter.on('x', listener);
      emitter.once('y', listener);
      return bind(function named(a, b) {
        return [here(), this, a, b];
      });
    });
    assert.equal(bound.name, 'named');
    assert.equal(bound.length, 2);
    const self = {};
    assert.deepEqual(bound.call(self, 1, 2), [traceId, self, 1, 2]);
    emitter.emit('x');
    emitter.emit('y');
    emitter.emit('y');
    emitter.off('x', listener);
    emitter.emit('x');
    assert.deepEqual(seen, [traceId, traceId]);
    inTrace(() => emitter.once('z', listener));
    emitter.off('z', listener);
    assert.equal(emitter.listenerCount('z'), 0);
  });

  test('through streams', async () => {
    const seen = [];
    const upper = inTrace(() =>
      bindStream(
        new Transform({
          transform(chunk, _, done) {
            seen.push(here());
            done(null, chunk.toString().toUpperCase());
          },
        }),
      ),
    );
    const text = [];
    for await (const chunk of Readable.from(['a', 'b']).pipe(upper)) text.push(chunk.toString());
    assert.equal(text.join(''), 'AB');
    assert.deepEqual(seen, [traceId, traceId]);
    const web = inTrace(() =>
      bindStream(
        new ReadableStream(
          {
            async pull(controller) {
              await tick();
              controller.enqueue(here());
              controller.close();
            },
          },
          { highWaterMark: 0 },
        ),
      ),
    );
    for await (const chunk of web) assert.equal(chunk, traceId);
  });

  test('through iterators that others consume', async () => {
    const source = {
      *[Symbol.iterator]() {
        yield here();
      },
    };
    const iterable = inTrace(() => bindIterator(source));
    assert.deepEqual([...iterable], [traceId]);
    const endless = inTrace(() =>
      bindIterator(
        (async function* () {
          for (;;) yield here();
        })(),
      ),
    );
    for await (const id of endless) {
      assert.equal(id, traceId);
      break;
    }
    assert.throws(() => bindIterator(5), { name: 'TypeError' });
  });

  test('to worker threads, explicitly', async () => {
    const worker = new Worker(
      `const { parentPort } = require('node:worker_threads');
       const { Tracer, withDistributedTraceContext, injectContextIntoCarrier } = require(${JSON.stringify(new URL('../dist/cjs/index.js', import.meta.url).pathname)});
       const tracer = Tracer.init({ exporter: 'memory' });
       parentPort.once('message', (carrier) => withDistributedTraceContext(carrier, tracer, () => {
         tracer.startSpan('work').end();
         parentPort.postMessage([injectContextIntoCarrier({}).baggage, tracer.recorded()]);
       }));`,
      { eval: true },
    );
    const tracer = makeTracer({ sessionId: 'from here' });
    let spanId;
    enrichSpanContext({ eventName: 'main', tracer }, (span) => {
      spanId = span.spanContext().spanId;
      worker.postMessage(contextCarrier());
    });
    const [[baggage, spans]] = await once(worker, 'message');
    assert.match(baggage, /^session_id=from%20here,/);
    assert.equal(spans[0].parentSpanId, spanId);
    await worker.terminate();
  });
});

describe('sessions', () => {
  test('hundreds of requests at once stay apart', async () => {
    const tracer = makeTracer();
    const request = async (number) => {
      const session = tracer.createSession({ sessionId: `session ${number}` });
      await tick();
      await enrichSpanContext({ eventName: `request ${number}`, tracer }, async () => {
        await tick();
        assert.equal(decodeURIComponent(sentSession()), session);
        await new Promise((done) => setTimeout(done, number % 3));
        tracer.startSpan(`inner ${number}`).end();
      });
      // Without a span the default tracer would be meant.
      assert.equal(decodeURIComponent(sentSession(tracer)), session);
    };
    // As a server has them: each request in a turn of its own.
    await Promise.all(
      Array.from({ length: 300 }, (_, number) => new Promise((done) => setImmediate(() => done(request(number))))),
    );
    const spans = spansOf(tracer);
    assert.equal(spans.length, 600);
    for (const { name, session } of spans) assert.equal(session, `session ${name.split(' ')[1]}`);
  });

  test('createSession ends with the block around it; withSession with its function', async () => {
    const tracer = makeTracer();
    await withDistributedTraceContext({ traceparent: CALLER }, tracer, async () => {
      assert.equal(tracer.createSession('chat').length, 36);
      assert.notEqual(sentSession(), 'own');
      await tick();
      assert.notEqual(sentSession(), 'own');
    });
    withDistributedTraceContext({}, tracer, () => assert.equal(sentSession(), 'own'));
    assert.equal(tracer.withSession({ sessionId: 's' }, (id) => [id, sentSession()]).join(), 's,s');
    await tracer.withSession({ sessionId: 's' }, async () => {
      await tick();
      assert.equal(sentSession(), 's');
    });
  });

  test('an inbound session holds, an explicit one over it, a created one inside', () => {
    const tracer = makeTracer();
    const carrier = { baggage: 'session_id=theirs,k=v;p' };
    withDistributedTraceContext(carrier, tracer, () => {
      assert.equal(injectContextIntoCarrier({}).baggage, 'session_id=theirs,source=test,k=v;p');
      tracer.withSession({ sessionId: 'mine' }, () => assert.equal(sentSession(), 'mine'));
    });
    withDistributedTraceContext(carrier, tracer, () => assert.equal(sentSession(), 'named'), { sessionId: 'named' });
    withDistributedTraceContext(carrier, tracer, () => assert.equal(sentSession(), 'own'), {
      policy: { acceptSession: false },
    });
    for (const [options, name] of [
      [{ sessionId: 5 }, 'TypeError'],
      [{ sessionId: 'x'.repeat(257) }, 'RangeError'],
      [{ policy: 5 }, 'TypeError'],
    ]) {
      assert.throws(() => withDistributedTraceContext({}, tracer, () => assert.fail('it ran'), options), { name });
    }
  });

  test('fields of a session are a span of type session elsewhere', () => {
    const tracer = makeTracer();
    assert.equal(tracer.enrichSession({ metrics: { score: 1 }, user: 'a' }), true);
    const span = onlySpan(tracer);
    assert.equal(span.attributes.honeyhive_event_type, 'session');
    assert.equal(span.attributes['honeyhive_metrics.score'], 1);
    assert.equal(span.attributes['honeyhive_metadata.user'], 'a');
    assert.equal(span.startTimeUnixNano, span.endTimeUnixNano);
    assert.equal(tracer.enrichSession({}), false);
  });

  test('createEvent: a span with the times that it is given', () => {
    const tracer = makeTracer();
    const id = tracer.createEvent('call', { startTime: 1_000, duration: 250.5, inputs: { q: 1 }, sessionId: 'other' });
    const span = onlySpan(tracer);
    assert.equal(span.spanId, id);
    assert.equal(span.startTimeUnixNano, '1000000000');
    assert.equal(span.endTimeUnixNano, '1250500000');
    assert.equal(span.session, 'other');
    assert.equal(span.attributes.honeyhive_event_type, 'tool');
    assert.throws(() => tracer.createEvent('x', { startTime: -1 }), { name: 'RangeError', message: /startTime/ });
    assert.throws(() => tracer.createEvent('x', { nonsense: 1 }), { name: 'TypeError', message: /nonsense/ });
  });
});

describe('carriers', () => {
  test('what a carrier is or does never reaches the program', () => {
    const tracer = makeTracer();
    const hostile = new Proxy(
      {},
      {
        get() {
          throw new Error('trap');
        },
        ownKeys() {
          throw new Error('trap');
        },
        getPrototypeOf() {
          throw new Error('trap');
        },
      },
    );
    for (const carrier of [
      undefined,
      null,
      5,
      'traceparent',
      [],
      [null],
      [['traceparent']],
      [[1, 2]],
      hostile,
      () => {},
      Object.freeze({}),
      new Date(),
      Symbol('x'),
      {
        traceparent: {
          toString() {
            throw new Error('x');
          },
        },
      },
      { baggage: [null, 5, 'k=v'] },
      {
        get baggage() {
          throw new Error('x');
        },
      },
    ]) {
      assert.equal(injectContextIntoCarrier(carrier, tracer), carrier);
      withDistributedTraceContext(carrier, tracer, () => {});
      extractContextFromCarrier(carrier, tracer);
    }
  });

  test('a header that throws does not hide the others', () => {
    const get = (name) => {
      if (name === 'tracestate') throw new Error('x');
      return { traceparent: CALLER, baggage: 'session_id=theirs' }[name];
    };
    const plain = {
      traceparent: CALLER,
      get tracestate() {
        return get('tracestate');
      },
      baggage: 'session_id=theirs',
    };
    const like = (methods) => Object.assign(Object.create({}), methods);
    const carriers = [
      plain,
      like({ get, append() {} }),
      like({ getHeader: get, setHeader() {} }),
      like({ get, getMap() {} }),
    ];
    const tracer = makeTracer();
    for (const carrier of carriers) {
      const sent = withDistributedTraceContext(carrier, tracer, () => injectContextIntoCarrier({}, tracer));
      assert.equal(sent.traceparent, CALLER);
      assert.match(sent.baggage, /session_id=theirs/);
    }
  });

  test('a prototype is no header, and never becomes one', () => {
    const polluted = JSON.parse('{"__proto__": {"traceparent": "x"}, "constructor": {}}');
    assert.deepEqual(Object.keys(injectContextIntoCarrier(polluted, makeTracer())), [
      '__proto__',
      'constructor',
      'baggage',
    ]);
    assert.equal(Object.prototype.traceparent, undefined);
    assert.equal({}.baggage, undefined);
    const inherited = Object.create({ traceparent: CALLER });
    withDistributedTraceContext(inherited, makeTracer(), () =>
      assert.equal(injectContextIntoCarrier({}).traceparent, undefined),
    );
  });

  test('every kind is read and written', () => {
    const tracer = makeTracer();
    const metadata = () => {
      const map = new Map();
      return {
        map,
        get: (name) => map.get(name.toLowerCase()) ?? [],
        set: (name, value) => map.set(name.toLowerCase(), [value]),
        remove: (name) => map.delete(name.toLowerCase()),
        getMap: () => Object.fromEntries(map),
      };
    };
    const outgoing = () => {
      const headers = new Map();
      return {
        getHeader: (name) => headers.get(name.toLowerCase()),
        setHeader: (name, value) => void headers.set(name.toLowerCase(), value),
        removeHeader: (name) => void headers.delete(name.toLowerCase()),
      };
    };
    for (const make of [
      () => ({}),
      () => Object.create(null),
      () => new Map(),
      () => new Headers(),
      () => [],
      () => ['host', 'x'],
      metadata,
      outgoing,
    ]) {
      const carrier = make();
      withDistributedTraceContext(
        [
          ['traceparent', CALLER],
          ['tracestate', 'a=1'],
          ['baggage', 'k=v'],
        ],
        tracer,
        () => {
          injectContextIntoCarrier(carrier);
          // Once more: it is replaced, not added.
          injectContextIntoCarrier(carrier);
        },
      );
      withDistributedTraceContext(carrier, tracer, () => {
        const { traceparent, tracestate, baggage } = injectContextIntoCarrier({});
        assert.deepEqual(
          [traceparent, tracestate, baggage],
          [CALLER, 'a=1', 'session_id=own,source=test,k=v'],
          make.toString(),
        );
      });
    }
  });

  test('the outbound policy holds where a url is named', () => {
    const tracer = makeTracer();
    withDistributedTraceContext({ traceparent: CALLER, baggage: 'k=v' }, tracer, () => {
      assert.deepEqual(Object.keys(injectContextIntoCarrier({}, tracer, { url: 'https://api.example.com/v1' })), [
        'traceparent',
      ]);
      assert.deepEqual(Object.keys(injectContextIntoCarrier({}, tracer, { url: new URL('http://agent:80/') })), [
        'traceparent',
        'baggage',
      ]);
      assert.throws(() => injectContextIntoCarrier({}, tracer, { url: 5 }), { name: 'TypeError', message: /url/ });
    });
  });

  test('as an environment has them', () => {
    const env = injectContextIntoCarrier({ PATH: '/bin', HOME: '/' }, makeTracer());
    assert.deepEqual(Object.keys(env).slice(2), ['BAGGAGE']);
  });
});

describe('createSession in a server', () => {
  async function served(handler, paths) {
    const server = createServer(handler);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ports = new Set();
    try {
      await once(server.listen(0, '127.0.0.1'), 'listening');
      const found = [];
      for (const path of paths) {
        const [response] = await once(get({ port: server.address().port, path, agent }), 'response');
        ports.add(response.socket.localPort);
        let body = '';
        for await (const part of response) body += part;
        found.push(body);
      }
      assert.equal(ports.size, 1, 'one connection');
      return found;
    } finally {
      agent.destroy();
      server.close();
    }
  }

  test('holds for its own request only, of all that one connection brings', async () => {
    const tracer = makeTracer();
    const handler = async (request, response) => {
      if (request.url !== '/') tracer.createSession({ sessionId: request.url.slice(1) });
      // A second one in the same request.
      if (request.url === '/b') tracer.createSession({ sessionId: 'c' });
      const before = sentSession(tracer);
      await tick();
      response.end(`${before} ${sentSession(tracer)}`);
    };
    const found = await served(handler, ['/', '/a', '/', '/b', '/', '/']);
    assert.deepEqual(found, ['own own', 'a a', 'own own', 'c c', 'own own', 'own own']);
  });

  test('leaves alone the session that a program has created around its server', async () => {
    const tracer = makeTracer();
    const handler = (request, response) => {
      if (request.url !== '/') tracer.createSession({ sessionId: request.url.slice(1) });
      response.end(sentSession(tracer));
    };
    const found = await new Promise((resolve, reject) => {
      setImmediate(() => {
        tracer.createSession({ sessionId: 'all' });
        served(handler, ['/', '/a', '/']).then(resolve, reject);
      });
    });
    assert.deepEqual(found, ['all', 'a', 'all']);
  });
});

test('the first tracer is the default one', () => {
  assert.ok(getTracer() !== undefined);
});
