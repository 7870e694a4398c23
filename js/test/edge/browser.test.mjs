// A page in Chromium: what it sends to whom, and how its spans arrive.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';

import { chromium } from 'playwright-core';

import { attributesOf } from '../helpers.mjs';
import { bundled } from './bundle.mjs';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

const PROGRAM = `
import { Tracer, enrichSpanContext } from 'tracebaton';
import { wrapFetch } from 'tracebaton/fetch';
const tracer = Tracer.init({
  otlpEndpoint: COLLECTOR, otlpProtocol: 'http/json', serviceName: 'page', sessionId: 'page-session',
  policy: { propagateTo: ['localhost'] },
});
const fetch = wrapFetch();
globalThis.visit = (urls) => enrichSpanContext({ eventName: 'visit' }, () =>
  Promise.all(urls.map(async (url) => (await fetch(url)).json())));
globalThis.flush = () => tracer.flush(5000);
globalThis.leave = () => { tracer.startSpan('leaving', { attributes: { text: 'x'.repeat(3000) } }).end(); };
`;

/** A server for all: the page, services that say what headers they got, and the collector. */
async function start(script) {
  const spans = [];
  const server = createServer((request, response) => {
    const { origin } = request.headers;
    if (origin !== undefined) {
      response.setHeader('access-control-allow-origin', origin);
      response.setHeader('access-control-allow-headers', 'traceparent,tracestate,baggage,content-type,content-encoding');
    }
    if (request.method === 'OPTIONS') return response.writeHead(204).end();
    if (request.url === '/') return response.setHeader('content-type', 'text/html').end('<script type="module" src="/page.js"></script>');
    if (request.url === '/page.js') return response.setHeader('content-type', 'text/javascript').end(script.text);
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      response.setHeader('content-type', 'application/json');
      if (request.method !== 'POST') return response.end(JSON.stringify(request.headers));
      const body = Buffer.concat(chunks);
      const { resourceSpans } = JSON.parse(request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body);
      spans.push(...resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans)));
      server.emit('spans');
      response.end('{}');
    });
  });
  server.listen(0, 'localhost');
  await once(server, 'listening');
  return { server, spans, port: server.address().port, address: server.address().address };
}

test('chromium: a page', { skip: !existsSync(CHROMIUM) && `there is no ${CHROMIUM}` }, async () => {
  const script = { text: '' };
  const [page, listed] = [await start(script), await start(script)];
  const other = await start(script);
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  try {
    const host = page.address.includes(':') ? `[${page.address}]` : page.address;
    const collector = `http://localhost:${listed.port}`;
    script.text = (await bundled(PROGRAM, { conditions: ['browser'], define: { COLLECTOR: collector } })).script;
    const tab = await browser.newPage();
    await tab.goto(`http://${host}:${page.port}/`);
    await tab.waitForFunction('globalThis.visit');
    const urls = ['/own', `${collector}/listed`, `http://${host}:${other.port}/other`];
    const [own, mine, theirs] = await tab.evaluate((urls) => globalThis.visit(urls), urls);
    assert.match(own.traceparent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-03$/);
    assert.equal(own.baggage, 'session_id=page-session,source=dev');
    assert.equal(mine.traceparent.slice(0, 35), own.traceparent.slice(0, 35));
    assert.equal(mine.baggage, own.baggage);
    // Neither the page's origin nor listed: not even a preflight.
    assert.equal(theirs.traceparent, undefined);
    assert.equal(theirs.baggage, undefined);

    assert.equal(await tab.evaluate(() => globalThis.flush()), true);
    assert.deepEqual(listed.spans.map(({ name }) => name).sort(), ['GET', 'GET', 'GET', 'visit']);
    const visit = listed.spans.find(({ name }) => name === 'visit');
    for (const span of listed.spans) {
      assert.equal(span.traceId, own.traceparent.slice(3, 35));
      if (span !== visit) assert.equal(span.parentSpanId, visit.spanId);
      assert.equal(attributesOf(span.attributes)['honeyhive.session_id'], 'page-session');
    }

    // Who leaves a page takes nothing with him.
    const arrived = once(listed.server, 'spans');
    await tab.evaluate(() => globalThis.leave());
    await tab.goto('about:blank');
    await Promise.race([arrived, new Promise((_, reject) => setTimeout(reject, 10_000, new Error('nothing came')).unref())]);
    assert.equal(listed.spans.at(-1).name, 'leaving');
  } finally {
    await browser.close();
    for (const { server } of [page, listed, other]) server.close();
  }
});
