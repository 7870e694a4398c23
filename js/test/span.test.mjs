// Spans and the provider, as OpenTelemetry's API and SDK have them.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import * as api from '@opentelemetry/api';
import { JsonTraceSerializer, ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer';
import { ConsoleSpanExporter, InMemorySpanExporter, TraceIdRatioBasedSampler } from '@opentelemetry/sdk-trace-base';

import { Tracer, trace } from '../dist/esm/index.mjs';
import { makeTracer, onlySpan, spansOf } from './helpers.mjs';

describe('span', () => {
  test('holds what was set, in its order', () => {
    const tracer = makeTracer();
    const span = tracer.provider.getTracer('library', '1.2', { schemaUrl: 'http://schema' }).startSpan('s', {
      kind: api.SpanKind.CLIENT,
      attributes: { first: 1, list: ['a', null, 'b'], none: null },
      startTime: [100, 5],
    });
    const mutable = [1, 2];
    span.setAttributes({ bool: true, ratio: 0.5, big: 2 ** 53, text: 'ä'.repeat(40) });
    span.setAttribute('first', 2).setAttribute('mutable', mutable).setAttribute('', 'x').setAttribute('nan', NaN);
    mutable.push(3);
    span.addEvent('event', { a: 1 }, [100, 6]).addEvent('other', new Date(5));
    span.updateName('renamed').setStatus({ code: 2, message: 'bad' }).setStatus({ code: 0 });
    span.addLink({ context: { traceId: '1'.repeat(32), spanId: '2'.repeat(16), traceFlags: 1 }, attributes: { l: 1 } });
    span.end([101, 0]);
    span.setAttribute('late', 1).end();
    const recorded = onlySpan(tracer);
    assert.equal(recorded.name, 'renamed');
    assert.equal(recorded.kind, 3);
    assert.equal(recorded.startTimeUnixNano, '100000000005');
    assert.equal(recorded.endTimeUnixNano, '101000000000');
    const { first, list, bool, ratio, big, text, mutable: kept, late, nan } = recorded.attributes;
    assert.deepEqual(
      { first, list, bool, ratio, big, kept, late, nan },
      {
        first: 2,
        list: ['a', null, 'b'],
        bool: true,
        ratio: 0.5,
        big: 2 ** 53,
        kept: [1, 2],
        late: undefined,
        nan: 'NaN',
      },
    );
    assert.equal(text, 'ä'.repeat(40));
    assert.deepEqual(
      recorded.events.map(({ name, timeUnixNano }) => [name, timeUnixNano]),
      [
        ['event', '100000000006'],
        ['other', '5000000'],
      ],
    );
    assert.deepEqual(recorded.status, { code: 2, message: 'bad' });
    assert.equal(recorded.links[0].attributes.l, 1);
    assert.equal(recorded.droppedAttributesCount, 1);
  });

  test('times are those of a clock that does not jump, to the nanosecond where they are given', () => {
    const tracer = makeTracer();
    const before = Date.now();
    const span = tracer.startSpan('s');
    while (performance.now() % 1 > 0.5);
    span.end();
    const { startTimeUnixNano: start, endTimeUnixNano: end } = onlySpan(tracer);
    assert.ok(BigInt(end) > BigInt(start));
    assert.ok(Math.abs(Number(BigInt(start) / 1_000_000n) - before) < 5);
  });

  test('numbers are readings of the clock up to now, and milliseconds since 1970 beyond', () => {
    const past = Date.now() - 3_600_000;
    const tracer = makeTracer();
    const span = tracer.startSpan('s', { startTime: past });
    span.addEvent('then', past + 5);
    span.addEvent('at once', performance.now());
    span.end(past + 10);
    assert.deepEqual(span.startTime, [Math.floor(past / 1e3), (past % 1e3) * 1e6]);
    const { startTimeUnixNano, endTimeUnixNano, events } = onlySpan(tracer);
    assert.equal(BigInt(startTimeUnixNano), BigInt(past) * 1_000_000n);
    assert.equal(BigInt(endTimeUnixNano), BigInt(past + 10) * 1_000_000n);
    assert.equal(BigInt(events[0].timeUnixNano), BigInt(past + 5) * 1_000_000n);
    assert.ok(Math.abs(Number(events[1].timeUnixNano) / 1e6 - Date.now()) < 60_000);
  });

  test('JSON.stringify says which span it is', () => {
    const tracer = makeTracer();
    const span = tracer.startSpan('s');
    const said = JSON.parse(JSON.stringify({ span }));
    assert.equal(said.span.name, 's');
    assert.equal(said.span.spanId, span.spanContext().spanId);
    assert.equal(trace({ tracer }, (given) => given.spanContext().spanId)(span), span.spanContext().spanId);
  });

  test('code of a program that runs in what a span is given may record spans', async () => {
    const tracer = makeTracer();
    const other = () => tracer.startSpan('other', (span) => span.setAttribute('n', 1));
    const span = tracer.startSpan('s', {
      links: [
        {
          context: {
            get traceId() {
              other();
              return 'a'.repeat(32);
            },
            spanId: 'b'.repeat(16),
            traceFlags: 1,
            traceState: {
              serialize() {
                other();
                return 'k=v';
              },
            },
          },
        },
        {
          context: {
            get traceId() {
              throw new Error('x');
            },
          },
        },
      ],
    });
    // As a processor may leave it.
    void span.attributes;
    span.attributes.nasty = {
      toJSON() {
        other();
        return { fine: true };
      },
    };
    span.end();
    const state = {
      serialize() {
        other();
        return 'k=v';
      },
    };
    const remote = api.trace.setSpanContext(api.ROOT_CONTEXT, {
      traceId: 'c'.repeat(32),
      spanId: 'd'.repeat(16),
      traceFlags: 1,
      traceState: state,
    });
    tracer.provider.getTracer('x').startSpan('child', {}, remote).end();
    const spans = spansOf(tracer);
    const named = (name) => spans.filter((one) => one.name === name);
    assert.equal(spans.length, named('other').length + 2);
    assert.ok(named('other').length >= 4);
    for (const one of named('other')) assert.equal(one.attributes.n, 1);
    const [{ links, droppedLinksCount, attributes }] = named('s');
    assert.equal(links.length, 1);
    assert.equal(links[0].traceState, 'k=v');
    assert.equal(links[0].traceId, 'a'.repeat(32));
    assert.equal(droppedLinksCount, 1);
    assert.ok(JSON.stringify(attributes).includes('fine'));
    assert.equal(named('child')[0].traceState, 'k=v');
  });

  test('in a context whose spans have ended each tracer goes on with its own trace', async () => {
    const [one, two] = [makeTracer(), makeTracer()];
    const immediate = () => new Promise((resolve) => setImmediate(resolve));
    let last;
    one.startSpan('one', () =>
      two.startSpan('two', () => {
        last = immediate().then(() => one.startSpan('one more', () => two.startSpan('two more', () => {})));
      }),
    );
    await last;
    for (const tracer of [one, two]) {
      const spans = tracer.recorded();
      const [outer, inner] = ['', ' more'].map((end) => spans.find(({ name }) => name === (tracer === one ? 'one' : 'two') + end));
      assert.equal(inner.parentSpanId, outer.spanId);
      assert.equal(inner.traceId, outer.traceId);
    }
  });

  test('a key that is set for ever does not grow the span for ever', () => {
    const tracer = makeTracer();
    const span = tracer.startSpan('s');
    for (let n = 0; n < 100_000; n++) span.setAttribute('count', n);
    for (let n = 0; n < 5_000; n++) span.setAttribute(`key ${n}`, n);
    span.end();
    const { attributes, droppedAttributesCount } = onlySpan(tracer);
    assert.equal(attributes.count, 99_999);
    assert.equal(attributes['key 0'], 0);
    assert.ok(droppedAttributesCount >= 5_001 - 1024);
    assert.equal(attributes['honeyhive.session_id'], 'own');
  });

  test('what others read of it', () => {
    const tracer = makeTracer();
    const parent = tracer.provider.getTracer('lib', '2').startSpan('parent');
    const span = tracer.provider
      .getTracer('lib', '2')
      .startSpan('s', { kind: 1, startTime: new Date(1_000) }, api.trace.setSpan(api.ROOT_CONTEXT, parent));
    span.setAttribute('a', 1).addEvent('e', { k: 'v' });
    assert.equal(span.name, 's');
    assert.equal(span.kind, 1);
    assert.deepEqual(span.startTime, [1, 0]);
    assert.deepEqual(span.endTime, [0, 0]);
    assert.equal(span.ended, false);
    assert.equal(span.parentSpanContext.spanId, parent.spanContext().spanId);
    assert.equal(span.attributes.a, 1);
    assert.equal(span.attributes['honeyhive.session_id'], 'own');
    assert.deepEqual(
      span.events.map(({ name, attributes }) => [name, attributes]),
      [['e', { k: 'v' }]],
    );
    assert.deepEqual(span.status, { code: 0 });
    assert.equal(span.instrumentationScope.name, 'lib');
    assert.equal(typeof span.resource.attributes['service.name'], 'string');
    span.attributes.more = 'yes';
    span.setAttribute('later', [1, 2]);
    span.end(new Date(3_500));
    assert.deepEqual(span.duration, [2, 500_000_000]);
    const { attributes } = onlySpan(tracer);
    assert.equal(attributes.more, 'yes');
    assert.deepEqual(attributes.later, [1, 2]);
    assert.equal(attributes.a, 1);
    assert.equal(attributes['honeyhive.session_id'], 'own');
  });
});

describe('provider', () => {
  test('the same tracer for the same arguments', () => {
    const { provider } = makeTracer();
    assert.equal(provider.getTracer('a', '1'), provider.getTracer('a', '1'));
    assert.notEqual(provider.getTracer('a', '1'), provider.getTracer('a', '2'));
  });

  test('startActiveSpan: in all its forms, and it does not end the span', () => {
    const tracer = makeTracer();
    const otel = tracer.provider.getTracer('a');
    const outer = otel.startActiveSpan('outer', (span) => {
      otel.startActiveSpan('inner', { attributes: { a: 1 } }, (inner) => inner.end());
      otel.startActiveSpan('elsewhere', {}, api.ROOT_CONTEXT, (inner) => inner.end());
      otel.startActiveSpan('root', { root: true }, (inner) => inner.end());
      assert.equal(api.trace.getActiveSpan(), span);
      return span;
    });
    assert.equal(outer.isRecording(), true);
    outer.end();
    const spans = Object.fromEntries(spansOf(tracer).map((span) => [span.name, span]));
    assert.equal(spans.inner.parentSpanId, spans.outer.spanId);
    assert.equal(spans.elsewhere.parentSpanId || undefined, undefined);
    assert.equal(spans.root.parentSpanId || undefined, undefined);
  });

  test('suppressed tracing records nothing', () => {
    const tracer = makeTracer();
    const key = Symbol.for('OpenTelemetry SDK Context Key SUPPRESS_TRACING');
    assert.equal(
      tracer.provider.getTracer('a').startSpan('s', {}, api.ROOT_CONTEXT.setValue(key, true)).isRecording(),
      false,
    );
    assert.equal(tracer.recorded().length, 0);
  });

  test('span processors see spans, and what they leave is what is exported', async () => {
    const tracer = makeTracer();
    const calls = [];
    tracer.provider.addSpanProcessor({
      onStart(span, context) {
        calls.push(`start ${span.name} ${context !== undefined}`);
        span.setAttribute('from.start', 1);
      },
      onEnding(span) {
        calls.push('ending');
        span.setAttribute('from.ending', 2);
      },
      onEnd(span) {
        calls.push(`end ${span.attributes.own}`);
        delete span.attributes.own;
        span.attributes['from.end'] = 3;
      },
      forceFlush: () => Promise.resolve(),
      shutdown: () => Promise.reject(new Error('no')),
    });
    tracer.provider.addSpanProcessor({
      onStart() {
        throw new Error('x');
      },
      onEnd() {
        throw new Error('x');
      },
    });
    const span = tracer.startSpan('s', { attributes: { own: 'yes' } });
    tracer.enrichSpan({ metadata: { a: 1 } });
    span.end();
    assert.deepEqual(calls, ['start s true', 'ending', 'end yes']);
    const { attributes } = onlySpan(tracer);
    assert.deepEqual(
      [attributes['from.start'], attributes['from.ending'], attributes['from.end'], attributes.own],
      [1, 2, 3, undefined],
    );
    assert.throws(() => tracer.provider.addSpanProcessor({}), { name: 'TypeError' });
    assert.equal(await tracer.shutdown(), false);
  });

  test("exporters and samplers of OpenTelemetry's SDK", async () => {
    const exporter = new InMemorySpanExporter();
    const tracer = Tracer.init({ exporter, sampler: new TraceIdRatioBasedSampler(1) });
    tracer.startSpan('outer', (span) => span.addEvent('e'));
    assert.equal(await tracer.flush(), true);
    const [span] = exporter.getFinishedSpans();
    assert.equal(span.name, 'outer');
    assert.equal(span.events[0].name, 'e');
    // What reads spans to send or print them finds all that it looks for.
    assert.ok(ProtobufTraceSerializer.serializeRequest([span]).length > 100);
    const { scopeSpans } = JSON.parse(Buffer.from(JsonTraceSerializer.serializeRequest([span]))).resourceSpans[0];
    assert.equal(scopeSpans[0].scope.name, 'tracebaton');
    assert.equal(scopeSpans[0].spans[0].name, 'outer');
    const printed = [];
    const { dir } = console;
    console.dir = (object) => printed.push(object);
    new ConsoleSpanExporter().export([span], () => {});
    console.dir = dir;
    assert.equal(printed[0].name, 'outer');
    const failing = Tracer.init({
      exporter: { export: (_, done) => setImmediate(done, { code: 1 }), shutdown: () => Promise.resolve() },
    });
    failing.startSpan('s').end();
    assert.equal(failing.stats().queued, 1);
    assert.equal(await failing.flush(), false);
    const lost = { queued: 0, sent: 0, dropped: { gave_up: 1 }, retried: 0, lastError: 'an exporter failed' };
    assert.deepEqual({ ...failing.stats().destinations }, { opentelemetry: lost });
    assert.equal(failing.stats().dropped.gave_up, 1);
    assert.equal(failing.stats().lastError, 'an exporter failed');
    assert.equal(tracer.stats().destinations.opentelemetry.sent, 1);
    assert.equal(tracer.stats().sent, 1);
    const none = makeTracer({ sampler: new TraceIdRatioBasedSampler(0) });
    assert.equal(none.startSpan('s').isRecording(), false);
    assert.equal(
      makeTracer({
        sampler: {
          shouldSample() {
            throw new Error('x');
          },
        },
      })
        .startSpan('s')
        .isRecording(),
      true,
    );
  });

  test('statistics have all that they are declared to have', () => {
    const counts = ['queued', 'sent', 'dropped', 'retried', 'lastError'];
    const more = ['spooled', 'unspooled', 'unspooledStarts', 'recovered', 'notSampled', 'inboundDropped', 'destinations', 'sessions'];
    const stats = makeTracer().stats();
    assert.deepEqual(Object.keys(stats).sort(), [...counts, ...more].sort());
    assert.deepEqual(Object.keys(stats.sessions).sort(), [...counts].sort());
  });

  test('what is not sampled is counted', async () => {
    const tracer = makeTracer({ sampler: 'always_off' });
    tracer.startSpan('a').end();
    tracer.startSpan('b').end();
    assert.equal(tracer.stats().notSampled, 2);
    const disabled = makeTracer({ disableTracing: true });
    disabled.startSpan('s', (span) => assert.equal(span.isRecording(), false));
    assert.equal(await disabled.flush(), true);
  });

  test('a ratio decides by the trace id, and for a root that id is the one that was decided', () => {
    const tracer = makeTracer({ sampler: 'traceidratio', samplerArgument: '0.5' });
    let sampled = 0;
    for (let n = 0; n < 400; n++) {
      const span = tracer.startSpan('s');
      sampled += span.isRecording() ? 1 : 0;
      assert.equal(BigInt(`0x${span.spanContext().traceId.slice(16)}`) < 2n ** 63n, span.isRecording());
      assert.match(span.spanContext().spanId, /^[0-9a-f]{16}$/);
      span.end();
    }
    assert.ok(sampled > 120 && sampled < 280);
    assert.equal(tracer.recorded().length, sampled);
  });

  test('ids differ, always', () => {
    const otel = makeTracer().provider.getTracer('a');
    const seen = new Set();
    for (let n = 0; n < 20_000; n++) {
      const { traceId, spanId } = otel.startSpan('s', { root: true }).spanContext();
      seen.add(traceId).add(spanId);
    }
    assert.equal(seen.size, 40_000);
  });

  test('after a shutdown nothing is taken, and the next tracer works', async () => {
    const tracer = makeTracer();
    assert.equal(await tracer.shutdown(), true);
    tracer.startSpan('late').end();
    assert.equal(await tracer.shutdown(), true);
    const next = makeTracer();
    next.startSpan('s').end();
    assert.equal(next.recorded().length, 1);
  });
});
