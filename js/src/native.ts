/** Imported for its effect: says how the backend is loaded in Node. The build leaves it out for other runtimes, whose
 * entries do. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { loadNative } from './backend-native.js';
import { provideBackend, type Backend } from './backend.js';
import { WasmBackend } from './wasm/backend.js';

provideBackend(() => {
  // Mostly for tests: `native` or `wasm`.
  const wanted = process.env['TRACEBATON_BACKEND'];
  if (wanted === 'wasm') return loadWasm();
  try {
    return loadNative();
  } catch (error) {
    if (wanted === 'native') throw error;
    try {
      return loadWasm();
    } catch {
      throw error;
    }
  }
});

/** What there is where no addon is. It has no spool, and what ends with `process.exit` ends. */
function loadWasm(): Backend {
  const bytes = readFileSync(join(__dirname, '..', 'tracebaton.wasm'));
  const { WebAssembly } = globalThis as any;
  const module = new WebAssembly.Module(bytes);
  return new WasmBackend(() => module);
}
