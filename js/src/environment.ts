/** What of the process around it a tracer is told. */

import { variables } from './runtime.js';

const PREFIXES = ['OTEL_', 'HH_', 'HONEYHIVE_', 'TRACEBATON_'];
const NAMES = new Set(['NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'SSL_CERT_DIR']);

/** The variables that mean something here, of the process or of another environment, such as a Worker's bindings. */
export function environment(all: Record<string, unknown> = variables()): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [name, value] of Object.entries(all)) {
    if (typeof value !== 'string') continue;
    if (PREFIXES.some((prefix) => name.startsWith(prefix)) || NAMES.has(name) || /_proxy$/i.test(name))
      found[name] = value;
  }
  return found;
}
