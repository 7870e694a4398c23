/** What `bindings-wasm` exports. Numbers only; texts and trees are in two pieces of its memory. */
export interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer; grow(pages: number): number };
  reserve(bytes: number): number;
  mail(bytes: number): number;
  init(length: number, session: number): number;
  call(op: number, tracer: number, length: number): number;
  start(tracer: number, parentFlags: number): number;
  submit(outbox: number, length: number, nowMs: number): void;
  flush(outbox: number, tracer: number, last: number): void;
  flushed(outbox: number, tracer: number): number;
  poll(outbox: number, lane: number, nowMs: number): number;
  answered(
    outbox: number,
    lane: number,
    status: number,
    afterMs: number,
    rejected: number,
    length: number,
    isProtobuf: number,
    nowMs: number,
    random: number,
  ): void;
  close(outbox: number): number;
  choose(outbox: number): void;
  lines(): number;
}

/** Makes an instance. wasm-bindgen has it import nothing but what begins its table of references, which nobody uses. */
export function instantiate(module: any): Exports {
  const { WebAssembly } = globalThis as any;
  const imports: Record<string, Record<string, () => void>> = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) (imports[from] ??= {})[name] = () => {};
  return new WebAssembly.Instance(module, imports).exports;
}
