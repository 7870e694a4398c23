// Puts the package as it was built into `node_modules`, as an installation of it would be: a link would have it find the
// packages that it is developed with, a second copy of `@opentelemetry/api` among them.
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const to = here('node_modules/tracebaton');
rmSync(to, { recursive: true, force: true });
mkdirSync(to, { recursive: true });
for (const part of ['package.json', 'dist']) cpSync(here(`../../${part}`), `${to}/${part}`, { recursive: true });

for (const file of readdirSync(here('../../../bindings-node'))) {
  const platform = /^tracebaton\.(.+)\.node$/.exec(file)?.[1];
  if (platform === undefined) continue;
  const native = here(`node_modules/tracebaton-${platform}`);
  mkdirSync(native, { recursive: true });
  cpSync(here(`../../../bindings-node/${file}`), `${native}/${file}`);
  writeFileSync(`${native}/package.json`, JSON.stringify({ name: `tracebaton-${platform}`, version: '0.1.0', main: file }));
}
