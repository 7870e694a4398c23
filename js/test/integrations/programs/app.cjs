// An Express application: `/work` waits until as many requests as `together` says are there, then asks another server by
// `http` and by `fetch`. With MIDDLEWARE, it uses the package as its documentation says.
const http = require('http');
const express = require('express');

const app = express();
let tracer;
if (process.env.MIDDLEWARE) {
  const { getTracer, Tracer } = require('tracebaton');
  tracer = getTracer() ?? Tracer.init();
  app.use(require('tracebaton/express').expressMiddleware());
}

const waiting = [];
const get = (url) => new Promise((resolve, reject) => {
  http.get(url, (response) => resolve(response.toArray().then((parts) => String(Buffer.concat(parts))))).on('error', reject);
});

app.get('/tasks/:id', async (request, response) => {
  if (request.query.session === 'new') tracer.createSession({ sessionId: `session-${request.params.id}`, skipApiCall: true });
  await new Promise((resolve) => {
    waiting.push(resolve);
    if (waiting.length >= Number(request.query.together ?? 1)) for (const go of waiting.splice(0)) go();
  });
  const work = async () => {
    const one = await get(`${process.env.LEAF}/http`);
    const other = await (await fetch(`${process.env.LEAF}/fetch`)).text();
    response.json([one, other]);
  };
  await (tracer ? tracer.startSpan(`inner-${request.params.id}`, work) : work());
});
const server = app.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
