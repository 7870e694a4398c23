// What a release holds, installed into empty projects: ES modules, CommonJS, TypeScript.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const require = createRequire(import.meta.url);
const PLATFORM = 'linux-x64-gnu';
const ADDON = join(ROOT, '..', 'bindings-node', `tracebaton.${PLATFORM}.node`);
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
const env = { ...process.env, NODE_TEST_CONTEXT: undefined, NO_COLOR: '1' };
const run = (file, args, cwd) =>
  execFileSync(file, args, { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

let folder;
let tarballs;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'tracebaton-pack-'));
  const platform = join(folder, 'platform');
  mkdirSync(platform);
  copyFileSync(ADDON, join(platform, 'tracebaton.node'));
  writeFileSync(
    join(platform, 'package.json'),
    JSON.stringify({
      name: `tracebaton-${PLATFORM}`,
      version,
      main: 'tracebaton.node',
      files: ['tracebaton.node'],
      os: ['linux'],
      cpu: ['x64'],
      libc: ['glibc'],
    }),
  );
  tarballs = [
    run(process.execPath, [join(ROOT, 'scripts', 'pack.mjs'), folder], ROOT).trim(),
    join(folder, JSON.parse(run('npm', ['pack', '--json', '--pack-destination', folder], platform))[0].filename),
  ];
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** A project with the packages installed. */
function project(name, json, files) {
  const at = join(folder, name);
  mkdirSync(at);
  writeFileSync(join(at, 'package.json'), JSON.stringify({ name, private: true, ...json }));
  for (const [file, text] of Object.entries(files)) writeFileSync(join(at, file), text);
  run(
    'npm',
    ['install', '--omit=peer', '--no-audit', '--no-fund', '--prefer-offline', ...tarballs],
    at,
  );
  assert.equal(existsSync(join(at, 'node_modules', '@opentelemetry')), false);
  return at;
}

const USE = `
const tracer = Tracer.init({ exporter: 'memory' });
const double = trace({ eventType: 'tool', eventName: 'double' }, (n) => 2 * n);
if (double(2) !== 4) throw new Error('wrong');
console.log(tracer.recorded().map(({ name }) => name).join());
`;

describe('the packed package', { skip: !existsSync(ADDON) && 'the native part is not built' }, () => {
  test('as ES modules, without @opentelemetry/api', () => {
    const at = project('esm', { type: 'module' }, { 'main.mjs': `import { Tracer, trace } from 'tracebaton';${USE}` });
    assert.equal(run(process.execPath, ['main.mjs'], at).trim(), 'double');
  });

  test('as CommonJS; both forms are one instance', () => {
    const at = project(
      'cjs',
      {},
      {
        'main.cjs': `const { Tracer, trace } = require('tracebaton');${USE}
        import('tracebaton').then((esm) => { if (esm.Tracer !== Tracer || esm.getTracer() !== tracer) throw new Error('two of them'); });`,
      },
    );
    assert.equal(run(process.execPath, ['main.cjs'], at).trim(), 'double');
  });

  test('in TypeScript, strictly', () => {
    const main = `
      import { Tracer, trace, enrichSpanContext, withDistributedTraceContext, type InitOptions } from 'tracebaton';
      const options: InitOptions = { exporter: 'memory', policy: { propagateTo: ['*.example.com'] } };
      const tracer = Tracer.init(options);
      const length: (text: string) => number = trace({ tracer, eventType: 'tool' }, (text: string) => text.length);
      const promised: Promise<number> = enrichSpanContext({ eventName: 'x', tracer }, async (span) => {
        span.setAttribute('a', 1);
        return length('abc');
      });
      withDistributedTraceContext(new Headers(), tracer, () => promised.then((value: number) => console.log(value)));
      // @ts-expect-error a number is no name
      tracer.startSpan(5);
    `.replace(/\n {6}tracer\.startSpan\(5\);/, '\n      () => tracer.startSpan(5);');
    const at = project(
      'ts',
      { type: 'module' },
      {
        'main.mts': main,
        'main.cts': main,
        'tsconfig.json': JSON.stringify({
          compilerOptions: {
            strict: true,
            module: 'nodenext',
            target: 'es2022',
            lib: ['es2023', 'dom', 'esnext.disposable'],
            types: [],
            outDir: 'out',
            exactOptionalPropertyTypes: true,
          },
        }),
      },
    );
    run(process.execPath, [join(dirname(require.resolve('typescript/package.json')), 'bin', 'tsc'), '-p', '.'], at);
    for (const file of ['main.mjs', 'main.cjs'])
      assert.equal(run(process.execPath, [join('out', file)], at).trim(), '3');
  });
});
