// The names that platforms have in npm packages with native code, and of ours for them.

import { readdirSync } from 'node:fs';

/** Every platform that there is a binary package for, and the target that Rust has for it. */
export const PLATFORMS = {
  'linux-x64-gnu': { target: 'x86_64-unknown-linux-gnu', libc: ['glibc'] },
  'linux-arm64-gnu': { target: 'aarch64-unknown-linux-gnu', libc: ['glibc'] },
  'linux-x64-musl': { target: 'x86_64-unknown-linux-musl', libc: ['musl'] },
  'linux-arm64-musl': { target: 'aarch64-unknown-linux-musl', libc: ['musl'] },
  'darwin-x64': { target: 'x86_64-apple-darwin' },
  'darwin-arm64': { target: 'aarch64-apple-darwin' },
  'win32-x64-msvc': { target: 'x86_64-pc-windows-msvc' },
};

/** The platform that this process runs on, such as `linux-x64-gnu`. */
export function platformName() {
  const { platform, arch } = process;
  if (platform === 'linux') return `${platform}-${arch}-${usesMusl() ? 'musl' : 'gnu'}`;
  return platform === 'win32' ? `${platform}-${arch}-msvc` : `${platform}-${arch}`;
}

function usesMusl() {
  try {
    return readdirSync('/lib').some((name) => name.startsWith('ld-musl-'));
  } catch {
    return false;
  }
}

/** The file of the addon for a platform. */
export const addonFile = (platform = platformName()) => `tracebaton.${platform}.node`;

/** The npm package that carries it. */
export const packageName = (platform = platformName()) => `tracebaton-${platform}`;
