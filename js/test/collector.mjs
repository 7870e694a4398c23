// A collector: takes OTLP/JSON and HoneyHive's calls, and keeps what came.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { gunzipSync } from 'node:zlib';

import { attributesOf } from './helpers.mjs';

/** Starts one on a free port of this machine. */
export async function startCollector() {
  const requests = [];
  const spans = [];
  const waiting = new Set();
  const server = createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      let body = Buffer.concat(chunks);
      if (request.headers['content-encoding'] === 'gzip') body = gunzipSync(body);
      const json = JSON.parse(body.toString());
      requests.push({ path: request.url, headers: request.headers, json });
      for (const { resource, scopeSpans } of json.resourceSpans ?? []) {
        for (const { scope, spans: some } of scopeSpans) {
          for (const span of some) {
            spans.push({
              ...span,
              scope: scope?.name,
              service: attributesOf(resource.attributes)['service.name'],
              attributes: attributesOf(span.attributes),
            });
          }
        }
      }
      response.setHeader('content-type', 'application/json');
      response.end(request.url === '/session/start' ? JSON.stringify({ session_id: json.session?.session_id }) : '{}');
      for (const check of waiting) check();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    requests,
    spans,
    /** Waits until the condition holds of what has come. */
    until(condition, within = 10_000) {
      return new Promise((resolve, reject) => {
        const timer = setTimeout(
          () => reject(new Error(`it did not come: ${JSON.stringify(requests).slice(0, 2000)}`)),
          within,
        );
        const check = () => {
          if (!condition()) return;
          clearTimeout(timer);
          waiting.delete(check);
          resolve();
        };
        waiting.add(check);
        check();
      });
    },
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
