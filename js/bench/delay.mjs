// What tracing does to the event loop: the 99th percentile of its delay under a steady load of spans.
//
//     node bench/delay.mjs [--spans-per-second N] [--seconds N] [--rounds N] [--json FILE]
//
// A child process for each: a tracer that does nothing, opentelemetry-js with its batch processor and OTLP exporter, and
// tracebaton; each with the same load of spans with five attributes, and a collector in a process of its own that takes what
// comes. What counts is how much each adds to what the one that does nothing has. Rounds alternate; medians.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'spans-per-second': { type: 'string', default: '50000' },
    seconds: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '5' },
    json: { type: 'string' },
  },
});
const RATE = Number(options['spans-per-second']);
const SECONDS = Number(options.seconds);

const MAKE = {
  async none() {
    const api = await import('@opentelemetry/api');
    return api.trace.getTracer('bench');
  },
  async opentelemetry(url) {
    const { BatchSpanProcessor, NodeTracerProvider } = await import('@opentelemetry/sdk-trace-node');
    const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-proto');
    // A queue as large as the load is, or it would just drop most of it.
    const processor = new BatchSpanProcessor(new OTLPTraceExporter({ url: `${url}/v1/traces` }), {
      maxQueueSize: 2 * RATE,
      maxExportBatchSize: 4096,
      scheduledDelayMillis: 1000,
    });
    const provider = new NodeTracerProvider({ spanProcessors: [processor] });
    provider.register();
    return provider.getTracer('bench');
  },
  async tracebaton(url) {
    const { Tracer } = await import('../dist/esm/index.mjs');
    return Tracer.init({ exporter: 'otlp', otlpEndpoint: `${url}/v1/traces` }).provider.getTracer('bench');
  },
};

/** Makes spans at the rate, in a turn of the loop each millisecond; the delays of the loop in milliseconds. */
async function load(mode, url) {
  const tracer = await MAKE[mode](url);
  const attributes = Object.entries({
    'app.user': 'alice',
    'app.count': 42,
    'app.ratio': 0.5,
    'app.flag': true,
    'app.route': '/v1/answer',
  });
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  const run = async (seconds) => {
    const begin = performance.now();
    let made = 0;
    for (;;) {
      const elapsed = performance.now() - begin;
      if (elapsed >= 1000 * seconds) return made;
      // No more than a few milliseconds' worth at once, however late this turn is.
      for (let due = Math.min((elapsed * RATE) / 1000 - made, (RATE / 1000) * 5); due >= 1; due--, made++) {
        tracer.startActiveSpan('answer', (span) => {
          for (const [key, value] of attributes) span.setAttribute(key, value);
          span.end();
        });
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };
  await run(1);
  histogram.enable();
  const cpu = process.cpuUsage();
  const made = await run(SECONDS);
  const { user, system } = process.cpuUsage(cpu);
  histogram.disable();
  process.send({
    p50: histogram.percentile(50) / 1e6,
    p99: histogram.percentile(99) / 1e6,
    max: histogram.max / 1e6,
    made,
    cpu: (user + system) / 1e6 / SECONDS,
  });
  setTimeout(() => process.exit(0), 50);
}

function collector() {
  const server = createServer((request, response) => {
    request.resume();
    request.on('end', () => response.setHeader('content-type', 'application/x-protobuf').end());
  });
  server.listen(0, '127.0.0.1', () => process.send(`http://127.0.0.1:${server.address().port}`));
}

if (positionals[0] === 'collector') {
  collector();
} else if (positionals[0] !== undefined) {
  await load(positionals[0], positionals[1]);
} else {
  const self = fileURLToPath(import.meta.url);
  const arguments_ = ['--spans-per-second', String(RATE), '--seconds', String(SECONDS)];
  const sink = fork(self, ['collector']);
  const [url] = await once(sink, 'message');
  const found = { none: [], opentelemetry: [], tracebaton: [] };
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const mode of Object.keys(found)) {
      const child = fork(self, [...arguments_, mode, url]);
      const [result] = await once(child, 'message');
      found[mode].push(result);
      await once(child, 'exit');
    }
  }
  sink.kill();
  const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
  const results = {};
  for (const [mode, list] of Object.entries(found)) {
    const part = (name) => Math.round(1000 * median(list.map((one) => one[name]))) / 1000;
    results[mode] = {
      p50_ms: part('p50'),
      p99_ms: part('p99'),
      max_ms: part('max'),
      spans: part('made'),
      cpu: part('cpu'),
      p99_all: list.map(({ p99 }) => Math.round(1000 * p99) / 1000),
    };
    console.log(mode.padEnd(14), JSON.stringify(results[mode]));
  }
  const added = (mode) => results[mode].p99_ms - results.none.p99_ms;
  const share = Math.round((1000 * added('tracebaton')) / added('opentelemetry')) / 1000;
  console.log(
    `tracebaton adds ${added('tracebaton').toFixed(3)} ms to p99, opentelemetry-js ${added('opentelemetry').toFixed(3)} ms: ${share} of it`,
  );
  if (options.json)
    writeFileSync(options.json, `${JSON.stringify({ node: process.version, rate: RATE, results, share }, null, 2)}\n`);
}
