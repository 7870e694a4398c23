// The second service: it goes on in the trace and session of whoever calls it.
import express from 'express';
import { Tracer, enrichSpanContext } from 'tracebaton';
import { expressMiddleware } from 'tracebaton/express';

const tracer = Tracer.init({ project: 'quickstart', source: 'agent', serviceName: 'agent' });
const app = express();
app.use(expressMiddleware({ tracer }), express.json());

app.post('/answer', async (request, response) => {
  const reply = await enrichSpanContext({ eventName: 'think', eventType: 'model', inputs: request.body }, async (span) => {
    span.setAttribute('app.confidence', 0.9);
    tracer.enrichSpan({ outputs: { reply: '42' } });
    return '42';
  });
  response.json({ reply });
});

const server = app.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
