/** `tracebaton` in browsers, and wherever else bundlers put it: the module is part of the script. */

import { provideBackend } from '../backend.js';
import { WasmBackend } from '../wasm/backend.js';
import { WASM } from './inline.js';

provideBackend(
  () =>
    new WasmBackend(() => {
      const { WebAssembly } = globalThis as any;
      return new WebAssembly.Module(Uint8Array.from(atob(WASM), (digit) => digit.charCodeAt(0)));
    }),
);

export * from '../edge/index.js';
