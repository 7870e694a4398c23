// `node --import tracebaton/register`: programs that know nothing of tracing become one tree in one session.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { CLIENT, Collector, Program, SERVER, here, listening, tree } from './support.mjs';

const REGISTER = ['--import', 'tracebaton/register'];
let collector;

before(async () => (collector = await Collector.start()));
after(() => collector.close());

test('programs over fetch and http, ESM and CommonJS, are one tree in one session', async () => {
  const leaf = await Program.serve('back.cjs', { collector, service: 'leaf', options: REGISTER });
  const back = await Program.serve('back.cjs', { collector, service: 'back', options: REGISTER, env: { LEAF: leaf.url } });
  const front = await Program.serve('front.mjs', { collector, service: 'front', options: REGISTER, env: { BACK: back.url } });
  const client = await Program.run('client.mjs', { collector, service: 'client', options: REGISTER, args: [front.url] });
  assert.match(client.output, /headers: .*done/s);

  const spans = await collector.wait(6);
  assert.equal(spans.length, 6);
  assert.deepEqual(tree(spans), ['GET', [['GET', [['GET', [['GET', [['GET', [['GET', []]]]]]]]]]]]);
  const chain = [spans.find((span) => !span.parentSpanId)];
  while (chain.length < 6) chain.push(spans.find((span) => span.parentSpanId === chain.at(-1).spanId));
  assert.deepEqual(chain.map((span) => [span.service, span.kind]), [
    ['client', CLIENT], ['front', SERVER], ['front', CLIENT], ['back', SERVER], ['back', CLIENT], ['leaf', SERVER],
  ]);
  assert.equal(new Set(spans.map((span) => span.traceId)).size, 1);
  assert.equal(new Set(spans.map((span) => span.session)).size, 1);
  const [first, second, third] = chain;
  assert.equal(first.attributes['url.full'], `${front.url}/start`);
  assert.equal(first.attributes['http.request.method'], 'GET');
  assert.equal(first.attributes['http.response.status_code'], 200);
  assert.equal(first.attributes['server.address'], '127.0.0.1');
  assert.equal(first.attributes['server.port'], Number(new URL(front.url).port));
  assert.equal(second.attributes['url.path'], '/start');
  assert.equal(second.attributes['http.response.status_code'], 200);
  assert.equal(second.attributes['honeyhive_event_type'], 'chain');
  assert.equal(third.attributes['url.full'], `${back.url}/items`);
  assert.ok(!JSON.stringify(spans).includes('hidden'));
  for (const program of [leaf, back, front, client]) assert.equal(program.errors, '');
  await Promise.all([leaf.stop(), back.stop(), front.stop()]);
});

/** A server that answers at once, and holds what it was sent. */
async function answering() {
  const server = createServer((request, response) => {
    server.seen.push(request.headers);
    response.end('answer\n');
  });
  server.seen = [];
  server.url = await listening(server);
  return server;
}

test('process.exit right after the answer loses nothing, and is what it was', async () => {
  const server = await answering();
  collector.spans = [];
  const program = new Program('exits.mjs', { collector, options: REGISTER, args: [server.url] });
  assert.equal(await program.exited, 7);
  const [span] = await collector.wait(1);
  assert.equal(span.kind, CLIENT);
  assert.match(server.seen[0].traceparent, new RegExp(span.spanId));
  server.close();
});

test('a program that makes a tracer of its own goes on with that one', async () => {
  const server = await answering();
  collector.spans = [];
  const program = await Program.run('own-tracer.mjs', { collector, options: REGISTER, args: [server.url] });
  assert.equal(program.output, 'answer\n');
  assert.equal(program.errors, '');
  const spans = await collector.wait(2);
  assert.deepEqual(tree(spans), ['library', [['GET', []]]]);
  assert.ok(spans.every((span) => span.session === 'mine'));
  assert.match(server.seen[0].baggage, /session_id=mine/);
  server.close();
});

test('disabled, it does nothing', async () => {
  const server = await answering();
  const env = { OTEL_SDK_DISABLED: 'true' };
  const program = await Program.run('client.mjs', { collector, options: REGISTER, args: [server.url], env });
  assert.equal(program.output, 'answer\n');
  assert.equal(program.errors, '');
  assert.equal(server.seen[0].traceparent, undefined);
  server.close();
});

test('with HH_DISABLE_HTTP_TRACING there are no spans of requests, and the session goes along', async () => {
  const back = await Program.serve('back.cjs', { collector, options: REGISTER, env: { HH_DISABLE_HTTP_TRACING: 'true' } });
  const env = { BACK: back.url, HH_DISABLE_HTTP_TRACING: 'true' };
  const front = await Program.serve('front.mjs', { collector, options: REGISTER, env });
  collector.spans = [];
  const caller = { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', baggage: 'session_id=theirs' };
  const text = await (await fetch(front.url, { headers: caller })).text();
  assert.match(text, /00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01/);
  assert.match(text, /session_id=theirs/);
  await Promise.all([back.stop(), front.stop()]);
  assert.equal(collector.spans.length, 0);
});

test('without a backend, the program runs all the same', async () => {
  const server = await answering();
  const env = { TRACEBATON_NATIVE_PATH: '/nowhere.node', TRACEBATON_BACKEND: 'native' };
  const program = await Program.run('client.mjs', { collector, options: REGISTER, args: [server.url], env });
  assert.equal(program.output, 'answer\n');
  assert.match(program.errors, /TracebatonWarning: the program is not traced/);
  server.close();
});

test('without the native part there is another, which does not trace what it sends', async () => {
  const server = await answering();
  collector.spans = [];
  const env = { TRACEBATON_NATIVE_PATH: '/nowhere.node' };
  const program = await Program.run('client.mjs', { collector, options: REGISTER, args: [server.url], env });
  assert.equal(program.output + program.errors, 'answer\n');
  assert.equal(collector.spans.length, 1);
  server.close();
});

test('without @opentelemetry/api, nothing is said', async () => {
  const server = await answering();
  collector.spans = [];
  const folder = mkdtempSync(join(tmpdir(), 'tracebaton-'));
  for (const name of readdirSync(here('node_modules')).filter((name) => name.startsWith('tracebaton'))) {
    cpSync(here(`node_modules/${name}`), join(folder, 'node_modules', name), { recursive: true });
  }
  const program = await Program.run('client.mjs', { collector, options: REGISTER, args: [server.url], cwd: folder });
  assert.equal(program.errors, '');
  await collector.wait(1);
  rmSync(folder, { recursive: true });
  server.close();
});

test('--require does the same, for servers in worker threads too', async () => {
  collector.spans = [];
  const program = await Program.serve('worker.mjs', { collector, options: ['--require', 'tracebaton/register'] });
  await (await fetch(program.url)).text();
  const [span] = await collector.wait(1);
  assert.equal(span.kind, SERVER);
  await program.stop();
});

test('https, both ways', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tracebaton-'));
  try {
    execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', `${folder}/key.pem`, '-out', `${folder}/cert.pem`], { stdio: 'pipe' });
  } catch {
    return t.skip('there is no openssl');
  }
  collector.spans = [];
  const program = await Program.run('secure.cjs', { collector, options: REGISTER, args: [folder] });
  const spans = await collector.wait(4);
  const sent = program.output.trim().split('\n');
  for (const client of spans.filter((span) => span.kind === CLIENT)) {
    const server = spans.find((span) => span.parentSpanId === client.spanId);
    assert.equal(server.kind, SERVER);
    assert.equal(server.attributes['url.scheme'], 'https');
    assert.match(client.attributes['url.full'], /^https:\/\/127\.0\.0\.1:\d+\/$/);
    assert.ok(sent.some((traceparent) => traceparent.includes(client.spanId)));
  }
  rmSync(folder, { recursive: true });
});
