// The service that is called: goes on in the caller's trace and session, and answers with what it did.
import { createServer } from 'node:http';

import { HoneyHiveTracer, trace, withDistributedTraceContext } from '../../dist/esm/index.mjs';

const tracer = HoneyHiveTracer.init({ source: 'agent', sessionName: 'agent' });

const lookUp = trace({ eventType: 'tool', eventName: 'look_up' }, async ({ question }) => `about ${question}`);

const answer = trace({ eventType: 'chain', eventName: 'agent_run' }, async (question) => {
  const found = await lookUp({ question, apiKey: 'secret' });
  tracer.enrichSpan({ metadata: { found: 1 }, metrics: { score: 0.9 } });
  return found;
});

createServer((request, response) =>
  withDistributedTraceContext(request.headers, tracer, async () => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    response.end(await answer(Buffer.concat(chunks).toString()));
  }),
).listen(0, '127.0.0.1', function () {
  process.send(this.address().port);
});
process.on('message', async () => {
  await tracer.flush();
  process.exit(0);
});
