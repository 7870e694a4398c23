/** What the surface needs of the Rust side: native in Node, WebAssembly elsewhere. The layouts are in `protocol.ts`. */
export interface Backend {
  /** `native` or `wasm`. */
  readonly kind: string;
  /** Memory that is shared with Rust: requests are written at 0, answers are read at 0. It moves only when it grows, by
   * `reserve` or for an answer that is longer than it is. */
  memory(): Uint8Array;
  /** Makes the memory at least this large, keeping what is in it. */
  reserve(bytes: number): Uint8Array;
  /** Runs operation `op` for the tracer with this handle (0: none) on the first `length` bytes. Returns the length of the
   * answer; a negative number -n stands for an error, whose tree takes n bytes. */
  call(op: number, tracer: number, length: number): number;
  /** Ids and the sampler's decision for a new span. With `parentFlags` ≥ 0 the parent's trace id (32 hex digits) is at 0;
   * bit 8 says that the parent is remote. The answer at 0 is 32 + 16 hex digits; returned are the flags of the new span,
   * with bit 8 if it is recorded. */
  start(tracer: number, parentFlags: number): number;
  /** Hands over the first `length` bytes of a chunk of records, which may be reused when this returns. */
  submit(chunk: Uint8Array, length: number, outbox?: number): void;
  /** Where each request has an outbox (`outbox` is its number, from 1): delivers what it holds. */
  deliver?(outbox: number, tracer: number, timeoutMs: number, last: boolean): Promise<boolean>;
  /** Such an outbox is done with. */
  close?(outbox: number): void;
  /** Into which outbox the next requests about sessions go. */
  choose?(outbox: number): void;
  /** Delivers what has ended so far: true only if all of it was delivered in time. Tracer 0: all of them. */
  flush(tracer: number, timeoutMs: number): Promise<boolean>;
  /** The same, and takes no more. */
  shutdown(tracer: number, timeoutMs: number): Promise<boolean>;
  /** Delivers what all tracers hold that were not shut down, blocking; false where a runtime cannot block, or not all was
   * delivered. The last time (`last` is not 0) nothing more is taken; before, a first failure ends it. */
  flushAtExit(timeoutMs: number, last: number): boolean;
  /** Calls back, on the event loop, when there is something to report. Keeps no process alive. */
  onReport?(callback: () => void): void;
}

let present: Backend | undefined;
let load: (() => Backend) | undefined;

/** Says how the backend is loaded when it is first needed. */
export function provideBackend(loader: () => Backend): void {
  load ??= loader;
}

/** The backend; loads it.
 *
 * @throws Error if there is none for this platform.
 */
export function backend(): Backend {
  if (present !== undefined) return present;
  if (load === undefined) throw new Error('tracebaton: there is no backend for this runtime');
  present = load();
  return present;
}
