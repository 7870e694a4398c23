/** The WebAssembly backend. */

import type { Backend } from '../backend.js';
import { asBuffer } from '../bytes.js';
import { OP_DROP, OP_IDS, OP_INIT, OP_INSTRUMENTATION } from '../protocol.js';
import { PAGE_ORIGIN, PER_REQUEST } from '../runtime.js';
import { TreeReader } from '../tree.js';
import { instantiate, type Exports } from './module.js';
import { send, type Request } from './send.js';

/** The memory that an instance begins with. */
const MEMORY = 16 * 1024;
/** The largest number of random bytes that is given at once. */
const RANDOM = 24;
/** A span waits this long (milliseconds) for a retry to be due before a process that is done may end without it. */
const PATIENCE_MS = 2_000;

const { setTimeout, clearTimeout } = globalThis;

/** A lane of an outbox that is worked on. */
interface Work {
  done: Promise<void>;
  wake: () => void;
}

/** Core's exchange in an instance of WebAssembly, and delivery by `fetch`. */
export class WasmBackend implements Backend {
  readonly kind = 'wasm';
  private readonly load: () => any;
  private module: any;
  private wasm: Exports | undefined;
  private size = 0;
  /** The requests that tracers were made with, so that they can be made again. */
  private readonly inits = new Map<number, { request: Uint8Array; session: number }>();
  /** Likewise of instrumentations, whose numbers count from 0. */
  private readonly libraries: Uint8Array[] = [];
  private readonly works = new Map<string, Work>();
  private tell: (() => void) | undefined;

  /** `load` gives the module, when it is first needed. */
  constructor(load: () => any) {
    this.load = load;
  }

  private get instance(): Exports {
    if (this.wasm === undefined) {
      this.module ??= this.load();
      this.wasm = instantiate(this.module);
      this.size = 0;
    }
    return this.wasm;
  }

  /** Runs something of the instance. After a trap there is another one, with the same tracers, and what was on its way is
   * lost.
   *
   * @throws Error for a trap
   */
  private run<R>(fn: (wasm: Exports) => R): R {
    const { instance } = this;
    try {
      return fn(instance);
    } catch (trap) {
      this.renew(instance);
      throw new Error('tracebaton: WebAssembly trapped', { cause: trap });
    }
  }

  private renew(broken: Exports): void {
    this.wasm = undefined;
    // Whoever has a view of that memory sees that it is gone.
    broken.memory.grow(0);
    for (const request of this.libraries) {
      this.reserve(request.length).set(request);
      this.instance.call(OP_INSTRUMENTATION, 0, request.length);
    }
    const handles = [...this.inits.keys()].sort((a, b) => a - b);
    let next = 1;
    for (const handle of handles) {
      // The same handles as before; those between them have been dropped.
      for (; next <= handle; next++) {
        const { request, session } = this.inits.get(handle)!;
        this.reserve(request.length).set(request);
        this.instance.init(request.length - session, session);
        if (next !== handle) this.instance.call(OP_DROP, next, 0);
      }
    }
  }

  memory(): Uint8Array {
    return this.reserve(MEMORY);
  }

  reserve(bytes: number): Uint8Array {
    return this.run((wasm) => {
      this.size = Math.max(this.size, bytes);
      const at = wasm.reserve(this.size);
      return new Uint8Array(wasm.memory.buffer, at, this.size);
    });
  }

  call(op: number, tracer: number, length: number): number {
    if (op === OP_INIT) return this.init(length);
    if (op === OP_IDS) return this.ids();
    if (op === OP_DROP) this.inits.delete(tracer);
    const library = op === OP_INSTRUMENTATION ? this.memory().slice(0, length) : undefined;
    const answer = this.run((wasm) => wasm.call(op, tracer, length));
    this.size = Math.max(this.size, answer, -answer);
    if (library !== undefined && answer > 0 && this.word() === this.libraries.length) this.libraries.push(library);
    return answer;
  }

  private init(length: number): number {
    let session = '';
    // Where each request has a session, the tracer has none.
    if (!PER_REQUEST) session = globalThis.crypto.randomUUID();
    const memory = this.reserve(length + session.length);
    for (let index = 0; index < session.length; index++) memory[length + index] = session.charCodeAt(index);
    const request = memory.slice(0, length + session.length);
    const answer = this.run((wasm) => wasm.init(length, session.length));
    this.size = Math.max(this.size, answer, -answer);
    if (answer > 0) this.inits.set(this.word(), { request, session: session.length });
    return answer;
  }

  /** The first word of an answer. */
  private word(): number {
    const { buffer, byteOffset } = this.memory();
    return new DataView(buffer, byteOffset).getUint32(0, true);
  }

  private ids(): number {
    const digits = this.word();
    const room = this.reserve(digits);
    const random = new Uint8Array(Math.ceil(digits / 2));
    globalThis.crypto.getRandomValues(random);
    for (let index = 0; index < digits; index++) {
      const digit = (random[index >> 1] >> (index & 1 ? 0 : 4)) & 15;
      room[index] = digit + (digit < 10 ? 48 : 87);
    }
    return digits;
  }

  start(tracer: number, parentFlags: number): number {
    const memory = this.memory();
    if (parentFlags >= 0) memory.copyWithin(RANDOM, 0, 32);
    globalThis.crypto.getRandomValues(memory.subarray(0, RANDOM) as any);
    return this.run((wasm) => wasm.start(tracer, parentFlags));
  }

  submit(chunk: Uint8Array, length: number, outbox = 0): void {
    this.run((wasm) => {
      this.put(chunk.subarray(0, length));
      wasm.submit(outbox, length, Date.now());
      this.print(wasm);
    });
    if (!PER_REQUEST && outbox === 0) this.work(0, Infinity);
  }

  choose(outbox: number): void {
    this.run((wasm) => wasm.choose(outbox));
    // What follows puts a request about a session in.
    if (!PER_REQUEST) queueMicrotask(() => this.work(0, Infinity));
  }

  flush(tracer: number, timeoutMs: number): Promise<boolean> {
    return this.deliver(0, tracer, timeoutMs, false);
  }

  shutdown(tracer: number, timeoutMs: number): Promise<boolean> {
    return this.deliver(0, tracer, timeoutMs, true);
  }

  flushAtExit(): boolean {
    return false;
  }

  onReport(callback: () => void): void {
    this.tell = callback;
  }

  /** Delivers what is in an outbox, of one tracer or (0) of all: true only if all of it was delivered in time. */
  async deliver(outbox: number, tracer: number, timeoutMs: number, last: boolean): Promise<boolean> {
    try {
      const until = Date.now() + timeoutMs;
      this.run((wasm) => wasm.flush(outbox, tracer, last ? 1 : 0));
      const works = this.work(outbox, PER_REQUEST ? until : Infinity);
      for (const { wake } of works) wake();
      const late = sleep(timeoutMs, true);
      await Promise.race([Promise.all(works.map(({ done }) => done)), late.over]);
      late.wake();
      return this.run((wasm) => wasm.flushed(outbox, tracer)) !== 0;
    } catch {
      return false;
    }
  }

  /** An outbox takes no more: what is left in it is lost. */
  close(outbox: number): void {
    try {
      this.run((wasm) => wasm.close(outbox));
    } catch {
      // It is gone with the instance.
    }
  }

  /** Works on every lane of an outbox until there is nothing left to do, or until this time. */
  private work(outbox: number, until: number): Work[] {
    const works: Work[] = [];
    for (let lane = 0; ; lane++) {
      const key = `${outbox} ${lane}`;
      let work = this.works.get(key);
      // A request never waits for what another one does.
      if (work === undefined) {
        const state = this.poll(outbox, lane);
        if (state.what < 0) return works;
        if (state.what === 0) continue;
        const made: Work = { wake: () => {}, done: Promise.resolve() };
        this.works.set(key, made);
        made.done = this.lane(outbox, lane, until, made, state).finally(() => this.works.delete(key));
        work = made;
      }
      works.push(work);
    }
  }

  private async lane(outbox: number, lane: number, until: number, work: Work, state: State): Promise<void> {
    for (; state.what > 0; state = this.poll(outbox, lane)) {
      if (state.what === 1) {
        const now = Date.now();
        if (state.at >= until) return;
        // A process does not end before what it has just recorded had its try.
        const { over, wake } = sleep(state.at - now, state.at - now <= PATIENCE_MS);
        work.wake = wake;
        await over;
        continue;
      }
      const reply = await send(state.request!, until - Date.now(), PAGE_ORIGIN !== undefined);
      const random = globalThis.crypto.getRandomValues(new Uint32Array(1))[0];
      this.run((wasm) => {
        this.put(reply.said);
        const { status, after, rejected, said, isProtobuf } = reply;
        wasm.answered(outbox, lane, status, after, rejected, said.length, isProtobuf ? 1 : 0, Date.now(), random);
      });
    }
  }

  private poll(outbox: number, lane: number): State {
    try {
      return this.run((wasm) => {
        const what = wasm.poll(outbox, lane, Date.now());
        const { buffer } = wasm.memory;
        const at = what > 0 ? wasm.mail(0) : 0;
        if (what === 1) return { what, at: new DataView(buffer).getFloat64(at, true), request: undefined };
        if (what === 2) return { what, at: 0, request: treeAt(buffer, at) };
        return { what, at: 0, request: undefined };
      });
    } catch {
      return { what: -1, at: 0, request: undefined };
    }
  }

  private put(bytes: Uint8Array): void {
    const { instance } = this;
    const at = instance.mail(bytes.length);
    new Uint8Array(instance.memory.buffer, at, bytes.length).set(bytes);
  }

  /** Prints what the exporter `console` has. */
  private print(wasm: Exports): void {
    if (wasm.lines() !== 0) {
      const at = wasm.mail(0);
      for (const line of treeAt(wasm.memory.buffer, at)) console.log(line);
    }
    this.tell?.();
  }
}

function treeAt(buffer: ArrayBuffer, at: number): any {
  return new TreeReader(asBuffer(new Uint8Array(buffer)), at).value();
}

interface State {
  /** As `poll` of the instance says: below 0 there is no such lane, 1 wait, 2 send. */
  readonly what: number;
  readonly at: number;
  readonly request: Request | undefined;
}

/** A pause that can be ended. `holds`: a process does not end before it is over. */
function sleep(ms: number, holds: boolean): { over: Promise<void>; wake: () => void } {
  let wake = (): void => {};
  const over = new Promise<void>((resolve) => {
    // The longest that timers know.
    const timer: any = setTimeout(resolve, Math.min(Math.max(ms, 0), 0x7fff_ffff));
    if (!holds) timer.unref?.();
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
  return { over, wake };
}
