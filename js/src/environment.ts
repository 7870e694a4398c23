/** What of the process around it a tracer is told. */

const PREFIXES = ['OTEL_', 'HH_', 'HONEYHIVE_', 'TRACEBATON_'];
const NAMES = new Set(['NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'SSL_CERT_DIR']);

/** The variables that mean something here. */
export function environment(): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (value === undefined) continue;
    if (PREFIXES.some((prefix) => name.startsWith(prefix)) || NAMES.has(name) || /_proxy$/i.test(name))
      found[name] = value;
  }
  return found;
}

/** The file of the program that runs. */
export function programName(): string | undefined {
  return process.argv[1];
}
