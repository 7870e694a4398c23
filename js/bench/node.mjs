// Spans, extraction and injection beside opentelemetry-js, in one run on one machine.
//
//     node bench/node.mjs [--rounds N] [--json FILE]
//
// Both sides do the same work: a span is started, made current, given attributes, ended and made ready to send (serialized
// there, handed over to the background thread here); a carrier is extracted and the trace id, the flags and a baggage value
// are read; headers are injected. Each side has a process of its own, as it has in an application, and rounds alternate;
// what counts is the ratio of the medians, and its spread over pairs of rounds. Microseconds are this machine's.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import * as api from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from '@opentelemetry/core';
import { ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer';
import { BasicTracerProvider } from '@opentelemetry/sdk-trace-base';

import { TracebatonPropagator, Tracer } from '../dist/esm/index.mjs';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '15' }, json: { type: 'string' }, only: { type: 'string' } },
});
const ROUNDS = Number(options.rounds);
const ROUND_MS = 60;

const HEADERS = {
  host: 'agent.internal:8080',
  'user-agent': 'node',
  accept: '*/*',
  'content-type': 'application/json',
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01',
  tracestate: 'vendor=opaque,other=00f067aa0ba902b7',
  baggage: 'session_id=7f1f0ad8-2c1c-4d3e-9b52-6a1d1c9a7f10,project=agents,user=alice',
};
const ATTRIBUTES = Object.fromEntries([
  ...Array.from({ length: 7 }, (_, at) => [`app.attribute.${at}`, `value number ${at}`]),
  ['app.count', 42],
  ['app.ratio', 0.5],
  ['app.flag', true],
]);

/** Serializes spans in batches, as the batch processor and the OTLP exporter do, and sends them nowhere. */
class Serializer {
  batch = [];
  onStart() {}
  onEnd(span) {
    this.batch.push(span);
    if (this.batch.length < 512) return;
    ProtobufTraceSerializer.serializeRequest(this.batch);
    this.batch = [];
  }
  forceFlush() {
    return Promise.resolve();
  }
  shutdown() {
    return Promise.resolve();
  }
}

const SIDES = {
  tracebaton() {
    // Nobody answers there: what is measured is the event loop's part.
    const tracer = Tracer.init({
      exporter: 'otlp',
      otlpEndpoint: 'http://127.0.0.1:9',
      project: 'agents',
      flushInterval: 3600,
    });
    return { tracer: tracer.provider.getTracer('bench'), propagator: new TracebatonPropagator() };
  },
  opentelemetry() {
    api.context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
    return {
      tracer: new BasicTracerProvider({ spanProcessors: [new Serializer()] }).getTracer('bench'),
      propagator: new CompositePropagator({
        propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()],
      }),
    };
  },
};

function withAttributes(count) {
  const attributes = Object.entries(ATTRIBUTES).slice(-count);
  return ({ tracer }) =>
    () =>
      tracer.startActiveSpan('answer', (span) => {
        for (let index = 0; index < attributes.length; index++)
          span.setAttribute(attributes[index][0], attributes[index][1]);
        span.end();
      });
}

let sink = 0;
const WORK = {
  'span, 3 attributes': withAttributes(3),
  'span, 10 attributes': withAttributes(10),
  extract: ({ propagator }) => {
    return () => {
      const context = propagator.extract(api.ROOT_CONTEXT, HEADERS, api.defaultTextMapGetter);
      const span = api.trace.getSpanContext(context);
      sink += span.traceId.length + span.traceFlags + api.propagation.getBaggage(context).getEntry('user').value.length;
    };
  },
  inject: ({ propagator }) => {
    const context = propagator.extract(api.ROOT_CONTEXT, HEADERS, api.defaultTextMapGetter);
    return () => {
      const carrier = { accept: '*/*' };
      propagator.inject(context, carrier, api.defaultTextMapSetter);
      sink += carrier.traceparent.length + carrier.baggage.length;
    };
  },
  // A request that is passed on: what came in is read, and sent once. (More injections in it cost what `inject` does.)
  'hop: extract, inject': ({ propagator }) => {
    return () => {
      const context = propagator.extract(api.ROOT_CONTEXT, HEADERS, api.defaultTextMapGetter);
      const carrier = { accept: '*/*' };
      propagator.inject(context, carrier, api.defaultTextMapSetter);
      sink += carrier.traceparent.length + carrier.baggage.length;
    };
  },
};

/** Milliseconds that the main thread has computed so far; else the time. */
const computed = (() => {
  const file = `/proc/self/task/${process.pid}/schedstat`;
  try {
    readFileSync(file);
  } catch {
    return () => performance.now();
  }
  return () => Number(readFileSync(file, 'latin1').split(' ')[0]) / 1e6;
})();

/** Microseconds for one call, over a round. */
function measure(call) {
  let calls = 0;
  const begin = computed();
  let now = begin;
  while (now - begin < ROUND_MS) {
    for (let index = 0; index < 2000; index++) call();
    calls += 2000;
    now = computed();
  }
  return ((now - begin) * 1000) / calls;
}

/** A side: measures a round whenever it is told the name of some work. */
function answer(side) {
  const calls = new Map();
  process.on('message', (name) => {
    if (!calls.has(name)) calls.set(name, WORK[name](side));
    process.send(measure(calls.get(name)));
  });
}

const sorted = (list) => [...list].sort((a, b) => a - b);
const quantile = (list, share) => sorted(list)[Math.min(list.length - 1, Math.floor(list.length * share))];
const round = (number) => Math.round(number * 1000) / 1000;

async function compare() {
  const self = fileURLToPath(import.meta.url);
  const results = {};
  for (const name of Object.keys(WORK)) {
    if (options.only && !name.includes(options.only)) continue;
    const children = Object.keys(SIDES).map((side) =>
      fork(self, [side], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] }),
    );
    const ask = async (child) => {
      child.send(name);
      const [[microseconds]] = [await once(child, 'message')];
      return microseconds;
    };
    for (let warm = 0; warm < 4; warm++) for (const child of children) await ask(child);
    const [ours, theirs] = [[], []];
    for (let index = 0; index < ROUNDS; index++) {
      // Each goes first in every second pair.
      for (const side of index % 2 === 0 ? [0, 1] : [1, 0]) [ours, theirs][side].push(await ask(children[side]));
    }
    for (const child of children) child.kill('SIGKILL');
    const ratios = ours.map((value, index) => theirs[index] / value);
    results[name] = {
      tracebaton_us: round(quantile(ours, 0.5)),
      opentelemetry_us: round(quantile(theirs, 0.5)),
      ratio: round(quantile(theirs, 0.5) / quantile(ours, 0.5)),
      ratio_low: round(quantile(ratios, 0.1)),
      ratio_high: round(quantile(ratios, 0.9)),
    };
    const { tracebaton_us, opentelemetry_us, ratio, ratio_low, ratio_high } = results[name];
    console.log(
      `${name.padEnd(22)} ${tracebaton_us.toFixed(2).padStart(7)} µs  opentelemetry-js ${opentelemetry_us.toFixed(2).padStart(7)} µs  ` +
        `${ratio.toFixed(2)}x (${ratio_low.toFixed(2)} to ${ratio_high.toFixed(2)})`,
    );
  }
  if (options.json)
    writeFileSync(options.json, `${JSON.stringify({ node: process.version, rounds: ROUNDS, results }, null, 2)}\n`);
}

if (positionals[0] === undefined) await compare();
else answer(SIDES[positionals[0]]());
