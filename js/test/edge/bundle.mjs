// The package as a program for other runtimes has it: bundled from `node_modules`, by the conditions of its runtime.
import { cpSync, mkdirSync, rmSync } from 'node:fs';

import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** Puts the package as it was built into `node_modules`, as an installation of it would be. */
export function install() {
  const to = here('node_modules/tracebaton');
  rmSync(to, { recursive: true, force: true });
  mkdirSync(to, { recursive: true });
  for (const part of ['package.json', 'dist']) cpSync(here(`../../${part}`), `${to}/${part}`, { recursive: true });
}

let installed = false;

/** Bundles a file of this directory, or a text; `define` are constants in it. Returns the script, and the module of
 * WebAssembly if it stays a file. */
export async function bundled(entry, { define = {}, minify = false, conditions = ['workerd', 'worker', 'browser'], external = [] } = {}) {
  if (!installed) install();
  installed = true;
  const source = entry.includes('\n') ? { stdin: { contents: entry, resolveDir: here('.') } } : { entryPoints: [here(entry)] };
  const { outputFiles } = await build({
    ...source,
    outdir: here('build'),
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    loader: { '.wasm': 'copy' },
    assetNames: 'tracebaton',
    external: ['node:*', ...external],
    define: Object.fromEntries(Object.entries(define).map(([name, value]) => [name, JSON.stringify(value)])),
    conditions,
    minify,
    logLevel: 'error',
  });
  const script = outputFiles.find(({ path }) => path.endsWith('.js')).text;
  const wasm = outputFiles.find(({ path }) => path.endsWith('.wasm'))?.contents;
  return { script, wasm };
}


