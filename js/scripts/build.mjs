// Builds `dist/`: CommonJS by tsc, and for each entry of `exports` an ES module that names what the CommonJS one exports.
// There is one instance of the package in a process, however it is loaded: context and tracers are shared.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const require = createRequire(import.meta.url);
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

if (process.argv[2] !== '--keep') rmSync(join(root, 'dist'), { recursive: true, force: true });
const tsc = join(dirname(require.resolve('typescript/package.json', { paths: [root] })), 'bin', 'tsc');
execFileSync(process.execPath, [tsc, '-p', root], { stdio: 'inherit' });
buildForOthers();

/** ES modules for runtimes other than Node: with their own form of what differs, and the backend that the entry has. */
function buildForOthers() {
  execFileSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.es.json')], { stdio: 'inherit' });
  const es = (path) => join(root, 'dist/es', path);
  writeFileSync(es('package.json'), '{ "type": "module", "sideEffects": ["./entries/*"] }\n');
  writeFileSync(es('runtime.js'), "export * from './edge/runtime.js';\n");
  // Bundlers warn of an import of what does nothing.
  writeFileSync(es('exchange.js'), readFileSync(es('exchange.js'), 'utf8').replace("import './native.js';\n", ''));
  for (const nodes of ['native', 'backend-native']) for (const type of ['js', 'd.ts']) rmSync(es(`${nodes}.${type}`));
  // Made by `cargo run -p xtask -- npm`.
  const built = join(root, '../build/wasm/tracebaton.wasm');
  if (!existsSync(built)) return;
  const wasm = readFileSync(built);
  writeFileSync(join(root, 'dist/tracebaton.wasm'), wasm);
  writeFileSync(es('entries/inline.js'), `export const WASM = '${wasm.toString('base64')}';\n`);
}

for (const entry of Object.values(exports)) {
  if (entry.require === undefined) continue;
  const source = join(root, entry.require.default);
  const face = join(root, entry.import.default);
  const from = relative(dirname(face), source).replaceAll('\\', '/');
  const names = Object.keys(require(source)).filter((name) => name !== '__esModule' && name !== 'default');
  mkdirSync(dirname(face), { recursive: true });
  const named = names.length === 0 ? '' : `export const {\n${names.map((name) => `  ${name},\n`).join('')}} = all;\n`;
  writeFileSync(face, `import all from '${from}';\n${named}`);
  writeFileSync(face.replace(/\.mjs$/, '.d.mts'), `export * from '${from}';\n`);
}
