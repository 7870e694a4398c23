/** `tracebaton/manual`: for those who bring the module themselves, where neither a bundler nor a runtime does.
 *
 *     import module from 'tracebaton/wasm';
 *     import { useModule, Tracer } from 'tracebaton/manual';
 *     useModule(module);
 */

import { provideBackend } from '../backend.js';
import { WasmBackend } from '../wasm/backend.js';

/** Says which `WebAssembly.Module` there is: that of `tracebaton/wasm`. To be called before anything else. */
export function useModule(module: object): void {
  provideBackend(() => new WasmBackend(() => module));
}

export * from '../edge/index.js';
