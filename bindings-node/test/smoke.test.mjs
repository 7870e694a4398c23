// That the addon loads, delivers, and lets processes end: what its functions mean is tested through the package, in js/.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { gunzipSync } from 'node:zlib';

import { addon, ask, call, init, instrumentation, OP, record, submit } from './exchange.mjs';

const here = JSON.stringify(new URL('./exchange.mjs', import.meta.url).href);

/** Runs a program that has what `exchange.mjs` exports; how it ended. */
function run(program, ...args) {
  const source = `import { addon, ask, call, init, instrumentation, OP, record, submit, Bytes } from ${here};\n${program}`;
  const child = spawn(process.execPath, ['--input-type=module', '-', ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.end(source);
  let output = '';
  child.stdout.on('data', (data) => (output += data));
  return new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal, output: output.trim() })));
}

/** An OTLP server; `requests` has the bodies, `next` resolves with the next request's. */
async function receiver(t) {
  const requests = [];
  const waiting = [];
  const server = createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      const bytes = Buffer.concat(parts);
      const body = JSON.parse(request.headers['content-encoding'] === 'gzip' ? gunzipSync(bytes) : bytes);
      requests.push(body);
      waiting.splice(0).forEach((resolve) => resolve(body));
      response.setHeader('content-type', 'application/json').end('{}');
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    requests,
    next: () => (requests.length > 0 ? Promise.resolve(requests[0]) : new Promise((resolve) => waiting.push(resolve))),
    names: () =>
      requests.flatMap((body) =>
        body.resourceSpans.flatMap((it) => it.scopeSpans.flatMap((it) => it.spans.map((span) => span.name))),
      ),
  };
}

const otlp = (url) => ({ exporter: 'otlp', otlp_endpoint: url, otlp_protocol: 'http/json' });

test('spans come out as they went in', async () => {
  const { handle } = init({ exporter: 'memory' });
  const library = instrumentation('lib');
  submit(record(handle, library, 'one', { a: 1 }), record(handle, library, 'two', { b: ['x', 'ä'] }));
  assert.equal(await addon.flush(handle, 5000), true);
  const spans = ask(OP.MEMORY, handle).map((span) => JSON.parse(span));
  assert.deepEqual(spans.map((span) => span.name), ['one', 'two']);
  const attribute = spans[1].attributes.find((entry) => entry.key === 'b');
  assert.deepEqual(attribute.value, { arrayValue: { values: [{ stringValue: 'x' }, { stringValue: 'ä' }] } });
  // Handed over while the call runs: the chunk is JavaScript's again at once.
  const chunk = Uint8Array.from(record(handle, library, 'three'));
  addon.submit(chunk, chunk.length);
  chunk.fill(0);
  await addon.flush(handle, 5000);
  assert.equal(JSON.parse(ask(OP.MEMORY, handle).at(-1)).name, 'three');
  call(OP.DROP, handle);
  assert.equal(call(OP.MEMORY, handle).ok, false);
});

test('answers larger than the memory make it grow', async () => {
  const { handle } = init({ exporter: 'memory' });
  const text = 'x'.repeat(200_000);
  submit(record(handle, instrumentation('lib'), 'large', { text }));
  await addon.flush(handle, 5000);
  assert.ok(ask(OP.MEMORY, handle)[0].includes(text));
  assert.ok(addon.memory().length > 200_000);
});

test('no bytes and no arguments take the process down', () => {
  const { handle } = init({ exporter: 'memory' });
  let seed = 1;
  const random = () => (seed = (seed * 1103515245 + 12345) & 0x7fffffff);
  for (let round = 0; round < 20_000; round++) {
    const memory = addon.memory();
    const length = random() % 200;
    for (let at = 0; at < length; at++) memory[at] = random() >> (random() % 3 ? 16 : 30);
    // Not INIT, whose tracers would stay, nor DROP.
    addon.call(3 + (random() % 28), handle, length);
    if (round % 50 === 0) addon.submit(memory.slice(0, length), length);
  }
  for (const value of [undefined, null, 'x', {}, -1, 2 ** 40, NaN, () => {}, Symbol('x'), 1n]) {
    addon.call(value, value, value);
    addon.start(value, value);
    addon.submit(value, value);
    addon.submit(new Uint8Array(3), value);
    addon.submit(new Float64Array(3), 24);
    addon.onReport(value);
  }
  assert.ok(addon.flush('x') instanceof Promise);
  assert.equal(ask(OP.STATS, handle).sent, 0);
});

test('a process that exits at once loses nothing, and one that idles ends by itself', async (t) => {
  const server = await receiver(t);
  const exits = await run(
    `const { handle } = init(${JSON.stringify(otlp(server.url))});
     process.on('exit', () => console.log(addon.flushAtExit(5000, 1)));
     submit(record(handle, instrumentation('lib'), 'last'));
     process.exit(3);`,
  );
  assert.deepEqual(exits, { code: 3, signal: null, output: 'true' });
  assert.deepEqual(server.names(), ['last']);
  const idles = await run(
    `const { handle } = init(${JSON.stringify(otlp(server.url))});
     addon.onReport(() => {});
     submit(record(handle, instrumentation('lib'), 'flushed'));
     console.log(await addon.flush(handle, 5000));`,
  );
  assert.deepEqual(idles, { code: 0, signal: null, output: 'true' });
  assert.deepEqual(server.names(), ['last', 'flushed']);
});

test('a flush keeps its time, and says what was not delivered', async () => {
  // Nobody answers at this address, which nobody may have.
  const { handle } = init(otlp('http://192.0.2.1:4318'));
  submit(record(handle, instrumentation('lib'), 'lost'));
  assert.equal(await addon.flush(handle, 200), false);
  assert.equal(ask(OP.STATS, handle).queued, 1);
  assert.equal(await addon.shutdown(handle, 0), false);
  call(OP.DROP, handle);
});

test('reports are told', async () => {
  const told = new Promise((resolve) => addon.onReport(resolve));
  const { handle } = init(otlp('http://127.0.0.1:1'));
  submit(record(handle, instrumentation('lib'), 'refused'));
  const alive = setInterval(() => {}, 1000);
  await told;
  clearInterval(alive);
  const texts = ask(OP.REPORTS);
  assert.ok(texts.length > 0 && texts.every((text) => !text.includes('127.0.0.1:1/')), texts.join());
  assert.deepEqual(ask(OP.REPORTS), []);
  await addon.shutdown(handle, 0);
});

test('worker threads come and go', async (t) => {
  const server = await receiver(t);
  // Where no other thread has loaded it, the addon would go with the worker, and the threads of ours fault.
  const program = `
    import { Worker } from 'node:worker_threads';
    const source = \`import(${here}).then(({ addon, init, instrumentation, record, submit }) => {
      const { handle } = init(${JSON.stringify(otlp(server.url))});
      submit(record(handle, instrumentation('lib'), 'worker'));
    })\`;
    for (let n = 0; n < 5; n++) {
      await new Promise((resolve) => new Worker(source, { eval: true }).on('exit', resolve));
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
    console.log('alive');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (data) => (output += data));
  const code = await new Promise((resolve) => child.on('close', (code, signal) => resolve(signal ?? code)));
  assert.deepEqual([code, output.trim()], [0, 'alive']);
  // Here both: a worker with a flush that is not settled is ended, and the addon goes on.
  const flushing = new Worker(
    `import(${here}).then(({ addon, init, instrumentation, record, submit }) => {
      const { handle } = init(${JSON.stringify(otlp('http://192.0.2.1:4318'))});
      submit(record(handle, instrumentation('lib'), 'ended'));
      addon.flush(handle, 1000);
      require('node:worker_threads').parentPort.postMessage('flushing');
    })`,
    { eval: true },
  );
  await new Promise((resolve) => flushing.once('message', resolve));
  await flushing.terminate();
  const { handle } = init({ exporter: 'memory' });
  submit(record(handle, instrumentation('lib'), 'after'));
  assert.equal(await addon.flush(handle, 5000), true);
});

test('what is in the spool outlives its process', { skip: process.platform === 'win32' }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'tracebaton-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const options = (url) => JSON.stringify({ ...otlp(url), spool_dir: dir });
  const killed = await run(
    `const { handle, records_starts } = init(${options('http://192.0.2.1:4318')});
     const library = instrumentation('lib');
     const word = (value) => new Bytes().word(value);
     const token = call(OP.RECORD_START, handle, new Bytes().raw(record(handle, library, 'open'))).answer.readUInt32LE(0);
     call(OP.RECORD, handle, word(0).raw(record(handle, library, 'done')));
     process.stdout.write([records_starts, token > 0].join(), () => process.kill(process.pid, 'SIGKILL'));
     setInterval(() => {}, 1000);`,
  );
  assert.deepEqual(killed, { code: null, signal: 'SIGKILL', output: 'true,true' });
  const server = await receiver(t);
  const { handle } = init({ ...otlp(server.url), spool_dir: dir });
  const alive = setInterval(() => {}, 1000);
  await server.next();
  while (server.names().length < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  clearInterval(alive);
  assert.deepEqual(server.names().sort(), ['done', 'open']);
  assert.equal(await addon.shutdown(handle, 5000), true);
});
