// The declarations fit those of the frameworks, in strict mode.
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';

import { here } from './support.mjs';

test('a TypeScript program that uses all of them compiles', { timeout: 120_000 }, () => {
  const options = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2022', '--types', 'node'];
  try {
    execFileSync(process.execPath, [here('node_modules/typescript/bin/tsc'), ...options, here('types.ts')], { stdio: 'pipe', cwd: here('.') });
  } catch (failed) {
    throw new Error(String(failed.stdout));
  }
});
