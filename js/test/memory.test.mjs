// Nothing grows with what was done: spans, carriers, sessions, tracers. Run with --expose-gc.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  Tracer,
  bind,
  enrichSpanContext,
  injectContextIntoCarrier,
  trace,
  withDistributedTraceContext,
} from '../dist/esm/index.mjs';
import { CALLER } from './helpers.mjs';

const options = { skip: typeof globalThis.gc !== 'function' && 'needs --expose-gc' };
const tick = () => new Promise((resolve) => setImmediate(resolve));

async function settle() {
  for (let n = 0; n < 5; n++) {
    globalThis.gc();
    await tick();
  }
  const { heapUsed, arrayBuffers, external } = process.memoryUsage();
  return heapUsed + arrayBuffers + external;
}

/** How many bytes more there are after many rounds than after some. */
async function growth(round) {
  await round(2_000);
  const before = await settle();
  await round(20_000);
  return (await settle()) - before;
}

test('requests leave nothing behind', options, async () => {
  const tracer = Tracer.init({ exporter: 'none' });
  const traced = trace({ tracer }, async (question) => {
    await null;
    return question;
  });
  const grown = await growth(async (times) => {
    for (let n = 0; n < times; n++) {
      await withDistributedTraceContext({ traceparent: CALLER, baggage: `session_id=s${n},k=v` }, tracer, async () => {
        await enrichSpanContext({ eventName: 'request', inputs: { n } }, () => traced({ question: `why ${n}` }));
        injectContextIntoCarrier({});
        tracer.createSession();
      });
      if (n % 500 === 0) await tick();
    }
  });
  assert.ok(grown < 1_000_000, `${grown} bytes`);
});

test('tracers that nobody holds any more are gone', options, async () => {
  const grown = await growth(async (times) => {
    for (let n = 0; n < times / 20; n++) {
      const tracer = Tracer.init({ exporter: 'none' });
      tracer.startSpan('s').end();
      void tracer.shutdown();
      if (n % 100 === 0) await settle();
    }
  });
  assert.ok(grown < 1_000_000, `${grown} bytes`);
});

test('steps that each begin the next one, inside a span that has ended, keep nothing of those before', options, async () => {
  const [one, two] = [Tracer.init({ exporter: 'none' }), Tracer.init({ exporter: 'none' })];
  // Holds the last step's context.
  let last;
  const grown = await growth(
    (times) =>
      new Promise((resolve) => {
        let left = times;
        // Both tracers' spans are around each other, and those of one outlive those in them.
        const inner = trace({ tracer: two }, () => {
          setImmediate(--left > 0 ? outer : resolve);
          last = bind(() => {});
        });
        const outer = trace({ tracer: one }, async () => {
          inner();
          await tick();
        });
        outer();
      }),
  );
  assert.ok(grown < 1_000_000, `${grown} bytes`);
  last();
});

test('what a span held is gone when it has ended, though a context has it', options, async () => {
  const tracer = Tracer.init({ exporter: 'none' });
  const held = [];
  const round = async () => {
    const span = tracer.startSpan('s');
    held.push(span);
    for (let n = 0; n < 100; n++) {
      span.setAttribute(`text ${n}`, Buffer.alloc(10_000, 'y').toString());
      span.addEvent('e', { text: Buffer.alloc(10_000, 'z').toString() });
    }
    span.end();
    await tracer.flush();
    return settle();
  };
  // The first one makes room in memory that is shared with the backend.
  const before = await round();
  const grown = (await round()) - before;
  assert.ok(grown < 1_000_000, `${grown} bytes`);
  assert.equal(held.length, 2);
});
