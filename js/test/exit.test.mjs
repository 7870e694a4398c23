// What the end of a process does, and a death that nobody asked for.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { startCollector } from './collector.mjs';

const PACKAGE = new URL('../dist/cjs/index.js', import.meta.url).pathname;
let collector;
before(async () => {
  collector = await startCollector();
});
after(() => collector.close());

/** Runs a program that has a tracer; how it ended. */
async function run(program, options = {}, environment = {}) {
  const init = JSON.stringify({
    exporter: 'otlp',
    otlpEndpoint: collector.url,
    otlpProtocol: 'http/json',
    flushInterval: 3600,
    ...options,
  });
  const source = `const { Tracer } = require(${JSON.stringify(PACKAGE)}); const tracer = Tracer.init(${init});\n${program}`;
  const child = spawn(process.execPath, ['-e', source], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, ...environment },
  });
  const output = [];
  child.stdout.on('data', (chunk) => output.push(chunk));
  child.stderr.on('data', (chunk) => output.push(chunk));
  const begin = performance.now();
  const [code, signal] = await once(child, 'exit');
  return { code, signal, output: Buffer.concat(output).toString(), took: performance.now() - begin };
}

const named = (name) => collector.spans.filter((span) => span.name === name);

describe('the end of the process', () => {
  test('delivers what has ended, without anything asked', async () => {
    const { code, output } = await run("tracer.startSpan('quiet').end();");
    assert.equal(code, 0, output);
    assert.equal(named('quiet').length, 1);
  });

  test('process.exit right after end() loses nothing', async () => {
    const { code } = await run("for (let n = 0; n < 1000; n++) tracer.startSpan('sudden').end(); process.exit(3);");
    assert.equal(code, 3);
    assert.equal(named('sudden').length, 1000);
  });

  test('an exception that nobody catches stays what it is', async () => {
    const { code, output } = await run("tracer.startSpan('uncaught').end(); throw new Error('mine');");
    assert.equal(code, 1);
    assert.match(output, /Error: mine/);
    assert.equal(named('uncaught').length, 1);
  });

  test('an idle tracer keeps no process alive', async () => {
    const { code, took } = await run("tracer.startSpan('s');");
    assert.equal(code, 0);
    assert.ok(took < 4_000, `${took} ms`);
  });

  test('of a worker thread delivers what it has', async () => {
    const worker = `const { Tracer } = require(${JSON.stringify(PACKAGE)}); Tracer.init(${JSON.stringify({ exporter: 'otlp', otlpEndpoint: collector.url, otlpProtocol: 'http/json', flushInterval: 3600 })}).startSpan('threaded').end();`;
    const { code, output } = await run(
      `new (require('node:worker_threads').Worker)(${JSON.stringify(worker)}, { eval: true });`,
    );
    assert.equal(code, 0, output);
    assert.equal(named('threaded').length, 1);
  });

  test('a server that does not answer is waited for only so long', async () => {
    const { code, took } = await run("tracer.startSpan('lost').end();", { otlpEndpoint: 'http://127.0.0.1:9' });
    assert.equal(code, 0);
    assert.ok(took < 9_000, `${took} ms`);
  });

  test('delivers what is recorded by those who listen for it later', async () => {
    for (const [name, end] of [['late', ''], ['sudden late', 'process.exit()']]) {
      const program = `
        for (let n = 0; n < 10; n++) tracer.startSpan('${name}').end();
        for (let n = 0; n < 3; n++) process.on('exit', () => tracer.startSpan('${name}').end());
        ${end}`;
      const { code, output } = await run(program);
      assert.equal(code, 0, output);
      assert.equal(named(name).length, 13);
    }
  });

  test('does not wait again for a tracer whose shutdown has timed out', async () => {
    const program = `
      const server = require('node:http').createServer(() => {}).listen(0, '127.0.0.1', async () => {
        const { port } = server.address();
        const silent = Tracer.init({ exporter: 'otlp', otlpEndpoint: 'http://127.0.0.1:' + port, flushInterval: 3600 });
        for (let n = 0; n < 3; n++) silent.startSpan('s').end();
        const done = await silent.shutdown(100);
        const begin = performance.now();
        process.on('exit', () => console.log(done, performance.now() - begin < 4000));
        process.exit();
      });`;
    // The last listener runs when the exporters' one has.
    const { output } = await run(program);
    assert.match(output, /^false true$/m);
  });

  test('signals keep their meaning', async () => {
    const { signal } = await run(
      "tracer.startSpan('s').end(); process.kill(process.pid, 'SIGTERM'); setInterval(() => {}, 1000);",
    );
    assert.equal(signal, 'SIGTERM');
  });
});

describe('flush', () => {
  test('answers for a span that was too large to be kept', async () => {
    const program = `
      (async () => {
        tracer.startSpan('large').setAttribute('a', 'x'.repeat(40e6)).end();
        const large = await tracer.flush(5000);
        tracer.startSpan('small').end();
        console.log(large, await tracer.flush(5000), JSON.stringify(tracer.stats().dropped));
      })();`;
    const { output } = await run(program);
    assert.match(output, /^false true {"too_large":1}$/m);
  });
});

describe('the spool', () => {
  test('what ended before kill -9 is delivered by the next start', async () => {
    const spoolDir = mkdtempSync(join(tmpdir(), 'tracebaton-'));
    try {
      const { signal, output } = await run(
        "const begun = tracer.startSpan('begun'); tracer.startSpan('killed').end(); process.kill(process.pid, 'SIGKILL');",
        {
          spoolDir,
          otlpEndpoint: 'http://127.0.0.1:9',
        },
      );
      assert.equal(signal, 'SIGKILL', output);
      assert.equal(named('killed').length, 0);
      // It is delivered in the background, as long as the program goes on.
      const wait = 'const timer = setInterval(() => { if (tracer.stats().recovered >= 2) clearInterval(timer); }, 20);';
      const again = await run(wait, { spoolDir, flushInterval: 1 });
      assert.equal(again.code, 0, again.output);
      await collector.until(() => named('killed').length > 0 && named('begun').length > 0);
      assert.equal(named('begun')[0].status.code, 2);
    } finally {
      rmSync(spoolDir, { recursive: true, force: true });
    }
  });
});

describe('HoneyHive', () => {
  test('spans, sessions and fields of sessions go where it expects them', async () => {
    const { code, output } = await run(
      "const id = tracer.createSession({ sessionName: 'chat', inputs: { q: 'why' } }); tracer.startSpan('asked').end(); tracer.enrichSession({ metrics: { score: 1 } });",
      {
        exporter: undefined,
        otlpEndpoint: undefined,
        apiKey: 'key',
        serverUrl: collector.url,
        project: 'p',
        flushInterval: 1,
      },
    );
    assert.equal(code, 0, output);
    const paths = collector.requests.map(({ path }) => path);
    assert.ok(paths.includes('/session/start'), paths.join());
    assert.ok(paths.includes('/opentelemetry/v1/traces'), paths.join());
    const [span] = named('asked');
    assert.match(span.attributes['honeyhive.session_id'], /^[0-9a-f-]{36}$/);
    await run(
      "const span = tracer.startSpan('raw'); if (span.attributes['honeyhive.session_id'] !== 'any text') throw new Error('not raw'); span.end();",
      {
        exporter: undefined,
        otlpEndpoint: undefined,
        apiKey: 'key',
        serverUrl: collector.url,
        project: 'p',
        sessionId: 'any text',
      },
    );
    // HoneyHive wants UUIDs: the one of version 5.
    assert.match(named('raw')[0].attributes['honeyhive.session_id'], /^[0-9a-f]{8}-[0-9a-f]{4}-5/);
    assert.ok(
      collector.requests.some(
        ({ path, json }) => path === '/events' && json.event_id === span.attributes['honeyhive.session_id'],
      ),
    );
  });
});
