// A server in a worker thread.
import { createServer } from 'node:http';
import { Worker, isMainThread } from 'node:worker_threads';

if (isMainThread) new Worker(new URL(import.meta.url));
else {
  const server = createServer((request, response) => response.end(`${request.headers.traceparent}\n`));
  server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
}
