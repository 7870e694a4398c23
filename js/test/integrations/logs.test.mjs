// Log records say which trace, span and session they come from.
import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';

import pino from 'pino';
import { Tracer, withDistributedTraceContext } from 'tracebaton';
import { logFields, pinoMixin } from 'tracebaton/logs';

const before = logFields();
const tracer = Tracer.init({ exporter: 'memory', sessionId: 'own' });
const lines = [];
const logger = pino({ base: null, timestamp: false, mixin: pinoMixin() }, new Writable({ write: (line, _, done) => (lines.push(JSON.parse(line)), done()) }));

test('without a tracer, there is nothing to say', () => {
  assert.deepEqual(before, {});
});

test('records of pino have the ids of the current span, and the session', () => {
  lines.length = 0;
  logger.info('outside');
  const span = tracer.startSpan('work', (span) => {
    logger.info('inside');
    logger.child({ module: 'm' }).info({ span_id: 'its own' }, 'child');
    return span.spanContext();
  });
  withDistributedTraceContext({ baggage: 'session_id=theirs' }, () => logger.info('of a caller'));
  assert.deepEqual(lines, [
    { level: 30, session_id: 'own', msg: 'outside' },
    { level: 30, trace_id: span.traceId, span_id: span.spanId, session_id: 'own', msg: 'inside' },
    { level: 30, module: 'm', trace_id: span.traceId, span_id: 'its own', session_id: 'own', msg: 'child' },
    { level: 30, session_id: 'theirs', msg: 'of a caller' },
  ]);
});

test('the tracer that is given is the one that is meant', () => {
  const other = Tracer.init({ exporter: 'memory', sessionId: 'other' });
  assert.equal(logFields(other).session_id, 'other');
  assert.equal(pinoMixin(other)().session_id, 'other');
  assert.equal(logFields().session_id, 'own');
  assert.throws(() => logFields({}), { name: 'TypeError', message: /tracer must be a Tracer/ });
  assert.throws(() => pinoMixin(1), TypeError);
});
