/** The native backend: an addon from the package of this platform. */

import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import type { Backend } from './backend.js';

/** Loads the addon.
 *
 * `TRACEBATON_NATIVE_PATH` may name the file; otherwise it is the optional dependency for this platform, or, in a checkout
 * of the sources, what was built there.
 *
 * @throws Error if there is none.
 */
export function loadNative(): Backend {
  return { kind: 'native', ...open() } as Backend;
}

function open(): object {
  const load = createRequire(__filename);
  const path = process.env['TRACEBATON_NATIVE_PATH'];
  if (path) return load(path);
  const platform = platformName();
  try {
    return load(`tracebaton-${platform}`);
  } catch (error) {
    const built = join(__dirname, '..', '..', '..', 'bindings-node', `tracebaton.${platform}.node`);
    if (existsSync(built)) return load(built);
    throw new Error(
      `tracebaton: the package tracebaton-${platform} with the native part is missing (was it installed without optional dependencies?)`,
      { cause: error },
    );
  }
}

/** The platform as the names of the packages have it. */
function platformName(): string {
  const { platform, arch } = process;
  if (platform === 'linux') return `${platform}-${arch}-${usesMusl() ? 'musl' : 'gnu'}`;
  return platform === 'win32' ? `${platform}-${arch}-msvc` : `${platform}-${arch}`;
}

function usesMusl(): boolean {
  // A process report would say it, but may take long: it looks network interfaces up.
  try {
    return readdirSync('/lib').some((name) => name.startsWith('ld-musl-'));
  } catch {
    return false;
  }
}
