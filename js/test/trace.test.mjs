// `trace` and `enrichSpanContext`: every kind of function, run exactly once, whatever it throws.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { describe, test } from 'node:test';

import {
  Tracer,
  bindIterator,
  enrichSpan,
  enrichSpanContext,
  getTracer,
  setDefaultTracer,
  trace,
} from '../dist/esm/index.mjs';
import { makeTracer, onlySpan, spansOf } from './helpers.mjs';

const tick = () => new Promise((resolve) => setImmediate(resolve));

describe('trace', () => {
  test('keeps this, name, length and properties', () => {
    const tracer = makeTracer();
    function answer(question, depth) {
      return `${this.prefix}${question}${depth}`;
    }
    answer.extra = 5;
    const traced = trace({ tracer, eventType: 'chain' }, answer);
    assert.equal(traced.name, 'answer');
    assert.equal(traced.length, 2);
    assert.equal(traced.extra, 5);
    assert.equal(traced.call({ prefix: '>' }, 'why', 1), '>why1');
    const { name, attributes } = onlySpan(tracer);
    assert.equal(name, 'answer');
    assert.equal(attributes.honeyhive_event_type, 'chain');
    assert.equal(attributes.honeyhive_event_name, 'answer');
    assert.equal(attributes['honeyhive_inputs.question'], 'why');
    assert.equal(attributes['honeyhive_inputs.depth'], 1);
    assert.equal(attributes['honeyhive_outputs.result'], '>why1');
  });

  test('captures nothing where it is told so, and replaces secrets', () => {
    const tracer = makeTracer();
    trace({ tracer, capture: false }, (password) => password)('hunter2');
    trace({ tracer }, ({ password, user }) => user + password.length)({ password: 'hunter2', user: 'a' });
    const [silent, told] = spansOf(tracer);
    assert.equal(JSON.stringify(silent).includes('hunter2'), false);
    assert.equal(told.attributes['honeyhive_inputs.password'], '[redacted]');
    assert.equal(told.attributes['honeyhive_inputs.user'], 'a');
    assert.equal(JSON.stringify(told).includes('hunter2'), false);
  });

  test('async functions end when they are done', async () => {
    const tracer = makeTracer();
    const traced = trace({ tracer, eventName: 'slow' }, async (n) => {
      await tick();
      assert.equal(enrichSpan({ metadata: { deep: true } }), true);
      return n + 1;
    });
    const promise = traced(1);
    assert.equal(tracer.recorded().length, 0);
    assert.equal(await promise, 2);
    const { attributes } = onlySpan(tracer);
    assert.equal(attributes['honeyhive_metadata.deep'], true);
    assert.equal(attributes['honeyhive_outputs.result'], 2);
  });

  test('records what is thrown once, and throws it on unchanged', async () => {
    for (const thrown of [
      new TypeError('no'),
      'text',
      5,
      null,
      undefined,
      { odd: true },
      Object.freeze(new Error('frozen')),
    ]) {
      const tracer = makeTracer();
      let runs = 0;
      const throwing = trace({ tracer, eventName: 'x' }, () => {
        runs++;
        throw thrown;
      });
      let caught;
      try {
        throwing();
        assert.fail('it threw nothing');
      } catch (error) {
        caught = error;
      }
      assert.equal(caught, thrown);
      await assert.rejects(
        trace({ tracer, eventName: 'x' }, async () => {
          runs++;
          throw thrown;
        })(),
        (error) => error === thrown,
      );
      assert.equal(runs, 2);
      for (const span of spansOf(tracer)) {
        assert.equal(span.events.length, 1, String(thrown));
        assert.equal(span.status.code, 2);
        assert.ok(span.attributes.honeyhive_error !== undefined);
      }
    }
    const tracer = makeTracer();
    assert.throws(
      trace({ tracer }, () => {
        throw new RangeError('too far');
      }),
      /too far/,
    );
    const { attributes, status, events } = onlySpan(tracer);
    assert.equal(attributes.honeyhive_error, 'too far');
    assert.equal(status.message, 'RangeError: too far');
    assert.equal(events[0].attributes['exception.type'], 'RangeError');
    assert.match(events[0].attributes['exception.stacktrace'], /trace\.test/);
  });

  test('generators: the span lasts until they are exhausted, and is current in their steps only', () => {
    const tracer = makeTracer();
    const count = trace({ tracer, eventName: 'count' }, function* (to) {
      for (let n = 0; n < to; n++) {
        tracer.startSpan('inside').end();
        yield n;
      }
      return 'done';
    });
    const generator = count(2);
    assert.equal(generator.next().value, 0);
    tracer.startSpan('outside').end();
    assert.deepEqual([...generator], [1]);
    const spans = spansOf(tracer);
    const parent = spans.find(({ name }) => name === 'count');
    assert.equal(parent.attributes['honeyhive_outputs.items'], 2);
    for (const span of spans.filter(({ name }) => name === 'inside')) assert.equal(span.parentSpanId, parent.spanId);
    assert.equal(spans.find(({ name }) => name === 'outside').parentSpanId || undefined, undefined);
    assert.equal(spans.length, 4);
  });

  test('generators that are left early, throw, or are sent things', () => {
    const tracer = makeTracer();
    let closed = false;
    const endless = trace({ tracer, eventName: 'endless' }, function* () {
      try {
        for (let n = 0; ; n++) yield n;
      } finally {
        closed = true;
      }
    });
    for (const n of endless()) if (n === 3) break;
    assert.equal(closed, true);
    assert.equal(onlySpan(tracer).attributes['honeyhive_outputs.items'], 4);
    const echo = trace({ tracer, eventName: 'echo' }, function* () {
      let got;
      for (;;) {
        try {
          got = yield got;
        } catch (error) {
          got = error;
        }
      }
    })();
    echo.next();
    assert.equal(echo.next('a').value, 'a');
    assert.equal(echo.throw('b').value, 'b');
    assert.deepEqual(echo.return('c'), { value: 'c', done: true });
    const bad = trace({ tracer, eventName: 'bad' }, function* () {
      yield 1;
      throw new Error('inside');
    })();
    bad.next();
    assert.throws(() => bad.next(), /inside/);
    assert.equal(spansOf(tracer).find(({ name }) => name === 'bad').status.code, 2);
  });

  test('async generators', async () => {
    const tracer = makeTracer();
    const stream = trace({ tracer, eventName: 'stream' }, async function* () {
      for (const token of ['a', 'b']) {
        await tick();
        tracer.startSpan('token').end();
        yield token;
      }
    });
    const got = [];
    for await (const token of stream()) {
      tracer.startSpan('consumer').end();
      got.push(token);
    }
    assert.deepEqual(got, ['a', 'b']);
    const spans = spansOf(tracer);
    const parent = spans.find(({ name }) => name === 'stream');
    assert.equal(parent.attributes['honeyhive_outputs.items'], 2);
    for (const { name, parentSpanId } of spans) {
      if (name === 'token') assert.equal(parentSpanId, parent.spanId);
      if (name === 'consumer') assert.equal(parentSpanId || undefined, undefined);
    }
  });

  test('promises of a class of their own stay what they are; what is lazy begins once', async () => {
    const tracer = makeTracer();
    class Answer extends Promise {
      extra() {
        return 'extra';
      }
    }
    const answer = trace({ tracer, eventName: 'answer' }, () => new Answer((resolve) => setImmediate(resolve, 1)))();
    assert.equal(answer.extra(), 'extra');
    assert.equal(await answer, 1);
    let begun = 0;
    const query = trace({ tracer, eventName: 'query' }, () => ({
      then(resolve) {
        begun++;
        setImmediate(resolve, 'rows');
      },
    }))();
    assert.equal(begun, 0);
    assert.equal(await query, 'rows');
    assert.equal(begun, 1);
    assert.deepEqual(
      spansOf(tracer)
        .map(({ name }) => name)
        .sort(),
      ['answer', 'query'],
    );
  });

  test('generators that a function returns: the span lasts until they are done, and is current in their steps', async () => {
    const current = (tracer) => tracer.enrichSpan({ metadata: { seen: true } });
    const kinds = {
      plain: (tracer) => (function* () { yield current(tracer); yield 2; })(),
      async: async (tracer) => (async function* () { await null; yield current(tracer); yield 2; })(),
      'of TypeScript': async (tracer) => {
        let n = 0;
        const next = async () => (n++ === 0 ? { value: current(tracer), done: false } : { value: 2, done: n > 2 });
        const made = { next, throw: next, return: async (value) => ({ value, done: true }) };
        return { ...made, [Symbol.asyncIterator]() { return this; } };
      },
    }; // prettier-ignore
    for (const [name, make] of Object.entries(kinds)) {
      const tracer = makeTracer();
      const iterator = await trace({ tracer, eventName: name }, make)(tracer);
      assert.equal(tracer.recorded().length, 0, name);
      const values = [];
      for await (const value of iterator) values.push(value);
      assert.deepEqual(values, [true, 2], name);
      const span = onlySpan(tracer);
      assert.equal(span.attributes['honeyhive_outputs.items'], 2, name);
      assert.equal(span.attributes['honeyhive_metadata.seen'], true, name);
    }
    const tracer = makeTracer();
    const original = (function* () { yield 1; })(); // prettier-ignore
    const same = trace({ tracer }, () => original)();
    assert.equal(same, original);
    same.return();
    assert.equal(tracer.recorded().length, 1);
    const failing = trace({ tracer }, () => (function* () { throw new Error('in a step'); })())(); // prettier-ignore
    assert.throws(() => failing.next(), /in a step/);
    assert.equal(spansOf(tracer)[1].status.message, 'Error: in a step');
  });

  test('streams with methods of their own are not touched', async () => {
    class Stream {
      async next() {
        return { value: undefined, done: true };
      }
      return() {}
      throw() {}
      tee() {}
      [Symbol.asyncIterator]() {
        return this;
      }
    }
    const tracer = makeTracer();
    const stream = new Stream();
    assert.equal(await trace({ tracer }, async () => stream)(), stream);
    assert.equal(Object.hasOwn(stream, 'next'), false);
    assert.equal(tracer.recorded().length, 1);
  });

  test('who handles a rejection is what it is without tracing', async () => {
    const program = fork(new URL('programs/rejections.mjs', import.meta.url));
    const [{ reported, failed }] = await once(program, 'message');
    const { nobody, async: ofAsync, ...handled } = reported;
    for (const [name, reasons] of Object.entries(handled)) assert.deepEqual(reasons, [], name);
    assert.deepEqual(nobody, ['nobody']);
    assert.deepEqual(ofAsync, ['async']);
    assert.equal(failed, 5 + 2);
  });

  test('decorates methods, and refuses classes', () => {
    const tracer = makeTracer();
    const decorated = trace({ tracer, eventType: 'tool' })(
      function look() {
        return 1;
      },
      { kind: 'method', name: 'look' },
    );
    assert.equal(decorated(), 1);
    const descriptor = trace({ tracer })(null, 'older', {
      value: function older() {
        return 2;
      },
      writable: true,
    });
    assert.equal(descriptor.value(), 2);
    assert.deepEqual(
      spansOf(tracer).map(({ name }) => name),
      ['look', 'older'],
    );
    assert.throws(() => trace({ tracer }, class A {}), /not a class/);
    assert.throws(() => trace({ tracer }, class {}), /not a class/);
    assert.equal(trace({ tracer }, { class() { return 3; } }.class)(), 3); // prettier-ignore
  });

  test('wrong arguments are TypeErrors that name them', () => {
    assert.throws(() => trace(5), { name: 'TypeError', message: /options must be an object, not number/ });
    assert.throws(() => trace({ eventType: 5 }, () => {}), {
      name: 'TypeError',
      message: /eventType must be a string, not number/,
    });
    assert.throws(() => trace({ eventTyp: 'x' }, () => {}), { name: 'TypeError', message: /eventTyp/ });
    assert.throws(() => trace({}, 'x'), { name: 'TypeError', message: /fn must be a function, not string/ });
    assert.throws(() => trace({ tracer: {} }, () => {}), {
      name: 'TypeError',
      message: /tracer must be a Tracer, not Object/,
    });
    assert.throws(() => trace({ sessionId: '' }, () => {}), { name: 'RangeError', message: /sessionId/ });
    assert.throws(() => enrichSpanContext({}, () => {}), { name: 'TypeError', message: /eventName/ });
    assert.throws(() => enrichSpanContext({ eventName: 'x' }), { name: 'TypeError', message: /fn must be a function/ });
  });

  test('what captured values do never reaches the program', () => {
    const tracer = makeTracer();
    const hostile = {
      get bomb() {
        throw new Error('getter');
      },
      toJSON() {
        throw new Error('toJSON');
      },
    };
    const endless = new Proxy(
      {},
      {
        ownKeys() {
          throw new Error('trap');
        },
        get() {
          throw new Error('trap');
        },
        getPrototypeOf() {
          throw new Error('trap');
        },
      },
    );
    const circular = [];
    circular.push(circular);
    assert.equal(
      trace({ tracer }, (...all) => all.length)(hostile, endless, circular, Symbol('s'), 10n ** 30n, () => 1),
      6,
    );
    assert.equal(spansOf(tracer).length, 1);
  });

  test('without any tracer the function runs as it is', () => {
    for (let tracer = getTracer(); tracer !== undefined; tracer = getTracer()) {
      setDefaultTracer(undefined);
      void tracer.shutdown(0);
      if (getTracer() === tracer) break;
    }
    assert.equal(getTracer(), undefined);
    assert.equal(trace((n) => n + 1)(1), 2);
    assert.equal(
      enrichSpanContext({ eventName: 'x' }, (span) => span.isRecording()),
      false,
    );
    assert.equal(enrichSpan({ metadata: { a: 1 } }), false);
  });
});

describe('enrichSpanContext', () => {
  test('nests, returns what the function returns, and records fields', async () => {
    const tracer = makeTracer();
    const result = await enrichSpanContext(
      { eventName: 'outer', tracer, inputs: { q: [1, { a: 'b' }] }, metrics: { score: 0.5 } },
      async (span) => {
        await tick();
        span.setAttribute('own', true);
        return enrichSpanContext('inner', { outputs: { text: 'x' }, attributes: { list: ['a', 'b'] } }, () => 'result');
      },
    );
    assert.equal(result, 'result');
    const [inner, outer] = spansOf(tracer);
    assert.equal(inner.parentSpanId, outer.spanId);
    assert.equal(outer.attributes['honeyhive_inputs.q.1.a'], 'b');
    assert.equal(outer.attributes['honeyhive_metrics.score'], 0.5);
    assert.equal(outer.attributes.own, true);
    assert.deepEqual(inner.attributes.list, ['a', 'b']);
    assert.equal(inner.attributes['honeyhive_outputs.text'], 'x');
  });

  test('two tracers never mix', () => {
    const [one, two] = [makeTracer({ sessionId: 'one' }), makeTracer({ sessionId: 'two' })];
    enrichSpanContext({ eventName: 'a', tracer: one }, () =>
      enrichSpanContext({ eventName: 'b', tracer: two }, () =>
        enrichSpanContext({ eventName: 'c', tracer: one }, () => {
          assert.equal(two.enrichSpan({ seen: true }), true);
        }),
      ),
    );
    const [c, a] = spansOf(one);
    const b = onlySpan(two);
    assert.equal(c.parentSpanId, a.spanId);
    assert.equal(b.parentSpanId || undefined, undefined);
    assert.notEqual(b.traceId, a.traceId);
    assert.equal(b.attributes['honeyhive_metadata.seen'], true);
    assert.deepEqual([a.session, b.session], ['one', 'two']);
  });
});

test('bindIterator: steps run in the context of the one who bound it', async () => {
  const tracer = makeTracer();
  const source = async function* () {
    for (let n = 0; n < 2; n++) {
      tracer.startSpan('step').end();
      yield n;
    }
  };
  const bound = enrichSpanContext({ eventName: 'request', tracer }, () => bindIterator(source()));
  for await (const n of bound) assert.ok(n < 2);
  const [request, ...steps] = spansOf(tracer).sort((a, b) => (a.name < b.name ? -1 : 1));
  assert.equal(steps.length, 2);
  for (const step of steps) assert.equal(step.parentSpanId, request.spanId);
});

test('Tracer: wrong arguments', () => {
  for (const [options, error, message] of [
    [{ apiKey: 5 }, 'TypeError', /apiKey/],
    [{ sessionId: 'x'.repeat(257) }, 'RangeError', /sessionId/],
    [{ nonsense: 1 }, 'TypeError', /nonsense/],
    [{ exporter: 'nowhere' }, 'RangeError', /exporter/],
    [{ exporter: 5 }, 'TypeError', /exporter must be/],
    [{ policy: { inbund: 'x' } }, 'TypeError', /inbund/],
    [{ policy: { inbound: 'never' } }, 'RangeError', /inbound/],
    [{ sampler: 'some' }, 'RangeError', /sampler/],
    [{ limits: { spans: 3 } }, 'TypeError', /spans/],
    [{ redact: 'yes' }, 'TypeError', /redact/],
    [5, 'TypeError', /options/],
  ]) {
    assert.throws(() => Tracer.init(options), { name: error, message }, JSON.stringify(options));
  }
});
