/** The surface of `tracebaton` where WebAssembly is its backend: the same, and what belongs to these runtimes. */

export * from '../index.js';
export { useAsyncLocalStorage } from './runtime.js';
export { instrumentWorker, type Worker, type WorkerOptions } from './worker.js';
