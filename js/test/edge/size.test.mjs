// How much a program for another runtime carries: budgets, so that growth is noticed.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';

import { bundled } from './bundle.mjs';

/** KiB after gzip, minified: what there is today and a little more. */
const BUDGETS = [
  ['workerd', "import { Tracer } from 'tracebaton';\nTracer.init();\n", ['workerd', 'worker', 'browser'], { script: 28, wasm: 140 }],
  ['with its worker wrapper', "import { instrumentWorker } from 'tracebaton';\nexport default instrumentWorker({});\n", ['workerd', 'worker', 'browser'], { script: 30, wasm: 140 }],
  ['browser', "import { Tracer } from 'tracebaton';\nTracer.init();\n", ['browser'], { script: 215, wasm: 0 }],
];

const size = (bytes) => (bytes === undefined ? 0 : gzipSync(bytes, { level: 9 }).length / 1024);

describe('sizes', () => {
  for (const [name, program, conditions, budget] of BUDGETS) {
    test(name, async (t) => {
      const { script, wasm } = await bundled(program, { conditions, minify: true });
      const sizes = { script: size(script), wasm: size(wasm) };
      t.diagnostic(`${sizes.script.toFixed(1)} KiB of script, ${sizes.wasm.toFixed(1)} KiB of WebAssembly, gzipped`);
      for (const part of ['script', 'wasm']) assert.ok(sizes[part] <= budget[part], `${part}: ${sizes[part].toFixed(1)} KiB`);
    });
  }
});
