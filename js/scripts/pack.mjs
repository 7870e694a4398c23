// Packs what a release holds: `node scripts/pack.mjs DIR` writes `tracebaton-VERSION.tgz` there, from what was built.
//
// The packages with the binaries are optional dependencies of the release, and no dependencies of the sources: there is
// nothing to install of them where they are made.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { PLATFORMS, packageName } from '../../bindings-node/platform.mjs';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const destination = resolve(process.argv[2] ?? '.');
const stage = mkdtempSync(join(tmpdir(), 'tracebaton-pack-'));
try {
  for (const part of ['dist', 'README.md', 'LICENSE-MIT', 'LICENSE-APACHE']) {
    cpSync(join(root, part), join(stage, part), { recursive: true });
  }
  const { devDependencies, scripts, ...manifest } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  manifest.optionalDependencies = Object.fromEntries(
    Object.keys(PLATFORMS).map((platform) => [packageName(platform), manifest.version]),
  );
  writeFileSync(join(stage, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  const [{ filename }] = JSON.parse(
    execFileSync('npm', ['pack', '--json', '--pack-destination', destination], { cwd: stage, encoding: 'utf8' }),
  );
  console.log(join(destination, filename));
} finally {
  rmSync(stage, { recursive: true, force: true });
}
