// Builds the addon, and the npm package that carries it: build.mjs [--pack DIRECTORY] [CARGO ARGUMENT…]
//
// Without arguments: tracebaton.<platform>.node in this folder, which a checkout's js/ loads. With --pack also
// DIRECTORY/tracebaton-<platform>-<version>.tgz. Other platforms: `npx napi build --platform --release --cross-compile
// --target TARGET` makes their file here (package.json lists the targets), and PLATFORM=<platform> --pack packs it.

import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { PLATFORMS, addonFile, packageName, platformName } from './platform.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const { version, license } = JSON.parse(readFileSync(join(here, 'package.json')));
const platform = process.env.PLATFORM ?? platformName();
const addon = join(here, addonFile(platform));

const cargo = process.argv.slice(2);
const at = cargo.indexOf('--pack');
const [, into] = at < 0 ? [] : cargo.splice(at, 2);

if (platform === platformName()) build();
if (into) pack(resolve(into));

function build() {
  const { status, stdout } = spawnSync(
    'cargo',
    ['build', '--release', '-p', 'tracebaton-node', '--message-format', 'json-render-diagnostics', ...cargo],
    { cwd: root, stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 28, encoding: 'utf8' },
  );
  // What is wrong was said by cargo.
  if (status !== 0) process.exit(status ?? 1);
  const artifacts = stdout.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  const library = artifacts.findLast((it) => it.reason === 'compiler-artifact' && it.target.kind.includes('cdylib'));
  // Put in its place at once: a process that has the old one mapped would fault if it were overwritten.
  copyFileSync(library.filenames[0], `${addon}.new`);
  renameSync(`${addon}.new`, addon);
}

function pack(directory) {
  const [os, cpu] = platform.split('-');
  const name = packageName(platform);
  const manifest = {
    name,
    version,
    license,
    description: `The native part of the package tracebaton, for ${platform}`,
    main: addonFile(platform),
    files: [addonFile(platform), 'LICENSE-*'],
    os: [os],
    cpu: [cpu],
    ...(PLATFORMS[platform]?.libc && { libc: PLATFORMS[platform].libc }),
    engines: { node: '>=20' },
  };
  const folder = mkdtempSync(join(tmpdir(), 'tracebaton-pack-'));
  try {
    writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
    writeFileSync(join(folder, 'README.md'), `The native part of [tracebaton](https://www.npmjs.com/package/tracebaton), for ${platform}.\n`);
    copyFileSync(addon, join(folder, addonFile(platform)));
    for (const licence of ['LICENSE-APACHE', 'LICENSE-MIT']) copyFileSync(join(root, licence), join(folder, licence));
    mkdirSync(directory, { recursive: true });
    execFileSync('npm', ['pack', '--silent', '--pack-destination', directory], { cwd: folder, stdio: 'inherit' });
  } finally {
    rmSync(folder, { recursive: true });
  }
}
