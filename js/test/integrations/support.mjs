// What the tests share: a collector that receives spans as any OTLP backend does, processes, and servers on free ports.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';

/** A file of this folder. */
export const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** Milliseconds until a test gives up waiting for a condition. */
const PATIENCE = 20_000;

/** A span as OTLP/JSON has it, easier to read. */
export class SeenSpan {
  constructor(json, service) {
    Object.assign(this, json);
    this.service = service;
    this.attributes = attributesOf(json.attributes);
    this.events = (json.events ?? []).map((event) => ({ ...event, attributes: attributesOf(event.attributes) }));
    this.session = this.attributes['honeyhive.session_id'];
    this.isError = json.status?.code === 2;
  }
}

export function attributesOf(list = []) {
  return Object.fromEntries(
    list.map(({ key, value }) => {
      const [[kind, inner]] = Object.entries(value);
      return [key, kind === 'intValue' ? Number(inner) : inner];
    }),
  );
}

/** What a tracer with the exporter `memory` has recorded. */
export function recorded(tracer) {
  return tracer.recorded().map((json) => new SeenSpan(json));
}

/** Kinds of spans in OTLP. */
export const [INTERNAL, SERVER, CLIENT] = [1, 2, 3];

/** Waits until a condition holds; its value. */
export async function until(condition, what = 'a condition') {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain for ${typeof what === 'function' ? what() : what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Receives spans over HTTP. */
export class Collector {
  spans = [];

  static async start() {
    const collector = new Collector();
    collector.server = createServer(async (request, response) => {
      const parts = [];
      for await (const part of request) parts.push(part);
      let bytes = Buffer.concat(parts);
      if (request.headers['content-encoding'] === 'gzip') bytes = (await import('node:zlib')).gunzipSync(bytes);
      for (const { resource, scopeSpans } of JSON.parse(bytes).resourceSpans ?? []) {
        const service = attributesOf(resource?.attributes)['service.name'];
        for (const { spans } of scopeSpans) collector.spans.push(...spans.map((span) => new SeenSpan(span, service)));
      }
      response.setHeader('content-type', 'application/json').end('{}');
    });
    collector.url = await listening(collector.server);
    return collector;
  }

  /** Waits for so many spans. */
  async wait(count) {
    const there = () => this.spans.map((span) => `${span.service}/${span.kind} ${span.name}`).join(', ');
    await until(() => this.spans.length >= count, () => `${count} spans; there are ${there()}`);
    return this.spans;
  }

  /** The environment of a program that reports here. */
  environment(service) {
    const inherited = Object.entries(process.env).filter(([name]) => !/^(OTEL_|HH_|HONEYHIVE_|TRACEBATON_)/.test(name) || name === 'TRACEBATON_NATIVE_PATH');
    return {
      ...Object.fromEntries(inherited),
      OTEL_EXPORTER_OTLP_ENDPOINT: this.url,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
      OTEL_SERVICE_NAME: service,
    };
  }

  close() {
    this.server.close();
    this.server.closeAllConnections();
  }
}

/** Has a server listen on a free port of the loopback interface; its URL. */
export async function listening(server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${server.address().port}`;
}

/** A program of the folder `programs` in a process of its own. A server says its URL in its first line. */
export class Program {
  output = '';
  errors = '';

  constructor(name, { collector, service = name, options = [], env = {}, args = [], cwd = here('.') }) {
    this.child = spawn(process.execPath, [...options, here(`programs/${name}`), ...args], {
      cwd,
      env: { ...collector.environment(service), ...env },
    });
    this.child.stdout.on('data', (text) => (this.output += text));
    this.child.stderr.on('data', (text) => (this.errors += text));
    this.exited = once(this.child, 'exit').then(([code, signal]) => code ?? signal);
  }

  static async serve(name, options) {
    const program = new Program(name, options);
    program.url = await until(() => {
      if (program.child.exitCode !== null) throw new Error(`${name} ended: ${program.errors}`);
      return program.output.includes('\n') && program.output.split('\n')[0];
    }, `${name} to listen`);
    return program;
  }

  /** Runs it to its end; what it printed. */
  static async run(name, options) {
    const program = new Program(name, options);
    const code = await program.exited;
    if (code !== 0) throw new Error(`${name} ended with ${code}: ${program.errors}`);
    return program;
  }

  async stop() {
    this.child.kill('SIGTERM');
    await this.exited;
  }
}

/** The tree of spans below one, by name: `[name, [children]]`. */
export function tree(spans, root = spans.find((span) => !span.parentSpanId)) {
  const children = spans.filter((span) => span.parentSpanId === root.spanId);
  return [root.name, children.map((child) => tree(spans, child))];
}
