/** The module in base64: the build puts it here. */
export const WASM = '';
