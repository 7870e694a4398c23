/** `tracebaton` in Cloudflare Workers, where a module of WebAssembly is imported like any other. */

import module from '../../tracebaton.wasm';
import { provideBackend } from '../backend.js';
import { WasmBackend } from '../wasm/backend.js';

provideBackend(() => new WasmBackend(() => module));

export * from '../edge/index.js';
