declare module '*.wasm' {
  /** A `WebAssembly.Module`. */
  const module: any;
  export default module;
}
declare module '*.wasm?module' {
  const module: any;
  export default module;
}
