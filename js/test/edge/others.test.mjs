// Deno and Bun, from their npm packages.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { startCollector } from '../collector.mjs';
import { CALLER } from '../helpers.mjs';
import { install } from './bundle.mjs';
import { readFileSync } from 'node:fs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const EXTRACT = here('../../../tests/vectors/extract.json');

install();
for (const [name, args] of [
  ['deno', ['run', '--allow-env', '--allow-net', '--allow-read', '--no-lock']],
  ['bun', ['run']],
]) {
  test(name, async () => {
    const collector = await startCollector();
    const echo = createServer((request, response) => response.end(JSON.stringify(request.headers)));
    echo.listen(0, '127.0.0.1');
    await once(echo, 'listening');
    try {
      const env = { ...process.env, TRACEBATON_BACKEND: 'wasm', COLLECTOR: collector.url, ECHO: `http://127.0.0.1:${echo.address().port}`, VECTORS: EXTRACT };
      const { stdout } = await promisify(execFile)(here(`node_modules/.bin/${name}`), [...args, here('program.mjs')], { env, maxBuffer: 1 << 24 });
      const { headers, delivered, vectors } = JSON.parse(stdout);
      assert.equal(headers.traceparent.slice(0, 35), CALLER.slice(0, 35));
      assert.equal(headers.baggage, 'session_id=s-1,source=dev,a=1;p');
      assert.equal(delivered, true);
      assert.deepEqual(collector.spans.map((span) => [span.name, span.parentSpanId, span.service]), [['ask', CALLER.slice(36, 52), 'other']]);
      const plain = JSON.parse(readFileSync(EXTRACT, 'utf8')).cases;
      for (const [index, { name, input, expected }] of plain.entries()) {
        // Generated texts and policies are for the tests that write them out.
        if (input.policy || JSON.stringify(input).includes('"$')) continue;
        assert.deepEqual(vectors[index].dropped, [...expected.dropped].sort(), name);
        if (expected.span) assert.equal(vectors[index].traceparent.slice(3, 35), expected.span.trace_id, name);
      }
    } finally {
      echo.close();
      collector.close();
    }
  });
}
