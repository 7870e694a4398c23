/** `tracebaton` in edge functions as Vercel has them. */

import module from '../../tracebaton.wasm?module';
import { provideBackend } from '../backend.js';
import { WasmBackend } from '../wasm/backend.js';

provideBackend(() => new WasmBackend(() => module));

export * from '../edge/index.js';
