// The WebAssembly backend in Node, where no addon is.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { startCollector } from './collector.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const run = promisify(execFile);

/** Runs a program with this backend. */
async function program(text, env = {}) {
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', text], {
    cwd: here('.'),
    env: { ...process.env, TRACEBATON_BACKEND: 'wasm', ...env },
  });
  return stdout;
}

describe('the WebAssembly backend', () => {
  // What the other tests of this directory say holds for it, but for spools and for what blocks at exit.
  const FILES = ['vectors', 'trace', 'span', 'context', 'otel', 'tree', 'honeyhive', 'random', 'memory', 'instrumentors'];
  for (const file of FILES) {
    test(file, async () => {
      const env = { ...process.env, TRACEBATON_BACKEND: 'wasm' };
      // The runner would report to the one that runs this.
      delete env.NODE_TEST_CONTEXT;
      await run(process.execPath, ['--expose-gc', '--test', here(`${file}.test.mjs`)], { env, maxBuffer: 1 << 26 });
    });
  }

  test('is used where there is no addon', async () => {
    const text = `
      import { Tracer } from '../dist/esm/index.mjs';
      const tracer = Tracer.init({ exporter: 'memory' });
      tracer.startSpan('a').end();
      console.log(tracer.recorded()[0].name, tracer.sessionId.length);`;
    const env = { TRACEBATON_BACKEND: '', TRACEBATON_NATIVE_PATH: '/nowhere.node' };
    assert.equal(await program(text, env), 'a 36\n');
    await assert.rejects(program(text, { ...env, TRACEBATON_BACKEND: 'native' }), /nowhere/);
  });

  test('delivers when the program is done, and when it asks for it', async () => {
    const collector = await startCollector();
    try {
      const text = `
        import { Tracer } from '../dist/esm/index.mjs';
        const tracer = Tracer.init({ otlpEndpoint: '${collector.url}', otlpProtocol: 'http/json' });
        tracer.startSpan('asked').end();
        if (!(await tracer.flush(5_000))) throw new Error('not delivered');
        console.log(tracer.stats().sent);
        tracer.startSpan('at the end').end();`;
      assert.equal(await program(text), '1\n');
      assert.deepEqual(collector.spans.map(({ name }) => name), ['asked', 'at the end']);
    } finally {
      collector.close();
    }
  });

  test('a flush is over in time where nobody answers', async () => {
    const text = `
      import { createServer } from 'node:net';
      import { Tracer } from '../dist/esm/index.mjs';
      const server = createServer(() => {}).listen(0, '127.0.0.1', async () => {
        const tracer = Tracer.init({ otlpEndpoint: 'http://127.0.0.1:' + server.address().port });
        tracer.startSpan('a').end();
        const begin = performance.now();
        const done = await tracer.flush(300);
        console.log(done, performance.now() - begin < 3_000, tracer.stats().queued);
        process.exit();
      });`;
    assert.equal(await program(text), 'false true 1\n');
  });
});
