// Random spans and carriers, the same in every run: what goes in comes out, and nothing throws.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { explain, injectContextIntoCarrier, withDistributedTraceContext } from '../dist/esm/index.mjs';
import { makeTracer, spansOf } from './helpers.mjs';

/** Numbers from 0 to below 1 (mulberry32). */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const next = random(20_261_125);
const below = (limit) => Math.floor(next() * limit);
const pick = (list) => list[below(list.length)];
const ALPHABETS = ['abcdefgh', 'aé', 'ab😀', 'aÿĀ', '\u0000\u007f\u0080'];

function text(length = below(80)) {
  const characters = [...pick(ALPHABETS)];
  return Array.from({ length }, () => pick(characters)).join('');
}

function value() {
  switch (below(6)) {
    case 0:
      return below(2 ** 31) * pick([1, -1, 2 ** 20]);
    case 1:
      return next() * 1e9 + 0.5;
    case 2:
      return next() < 0.5;
    case 3:
      return Array.from({ length: 1 + below(5) }, () => text(below(40)));
    case 4:
      return Array.from({ length: 1 + below(5) }, () => below(100));
    default:
      return text();
  }
}

test('attributes come out as they were set', () => {
  const tracer = makeTracer();
  const expected = [];
  for (let number = 0; number < 1_500; number++) {
    const span = tracer.startSpan(text(1 + below(50)));
    const set = new Map();
    for (let left = below(20); left > 0; left--) {
      // Few of them, so that some are set again, and some are in many spans.
      const key = next() < 0.7 ? `key.${below(30)}` : `x${text(1 + below(40))}`;
      const one = value();
      set.set(key, one);
      span.setAttribute(key, one);
    }
    expected.push([span.name, set]);
    span.end();
  }
  const spans = spansOf(tracer);
  assert.equal(spans.length, expected.length);
  spans.forEach((span, index) => {
    const [name, set] = expected[index];
    assert.equal(span.name, name);
    for (const [key, one] of set) assert.deepEqual(span.attributes[key], one, key);
  });
});

const PARTS = [
  '00',
  '-',
  '0af7651916cd43dd8448eb211c80319c',
  'b7ad6b7169203331',
  '01',
  ',',
  '=',
  ';',
  ' ',
  '\t',
  '%',
  '%20',
  'session_id',
  'honeyhive.',
  'a',
  'é',
  '\u0000',
  '',
  '"',
  'k=v',
  'x'.repeat(300),
];
const junk = () => Array.from({ length: below(12) }, () => pick(PARTS)).join('');
const name = () =>
  pick(['traceparent', 'tracestate', 'baggage', 'Traceparent', 'BAGGAGE', 'HTTP_BAGGAGE', 'REQUEST_METHOD', 'host']);
const header = () => pick([junk, junk, () => [junk(), junk()], () => Buffer.from(junk()), () => undefined, () => 5])();

test('carriers of any content never throw, and what is sent is legal and stable', () => {
  const tracer = makeTracer();
  for (let number = 0; number < 3_000; number++) {
    const pairs = Array.from({ length: below(6) }, () => [name(), header()]);
    const carrier = pick([() => pairs, () => pairs.flat(), () => Object.fromEntries(pairs), () => new Map(pairs)])();
    explain(carrier);
    const sent = withDistributedTraceContext(carrier, tracer, () => {
      const once = injectContextIntoCarrier({});
      assert.deepEqual(injectContextIntoCarrier({}), once);
      injectContextIntoCarrier(carrier);
      return once;
    });
    for (const one of Object.values(sent)) assert.match(one, /^[\t\x20-\x7e]+$/);
    if (sent.traceparent) assert.match(sent.traceparent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]$/);
    // The next service reads what this one sent, whole.
    const again = withDistributedTraceContext(sent, tracer, () => injectContextIntoCarrier({}));
    assert.deepEqual(again, sent);
  }
});
