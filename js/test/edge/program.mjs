// A program for any runtime with Node's modules: the vectors, one hop, one export. Prints what it has seen.
import { readFileSync } from 'node:fs';

import { Tracer, injectContextIntoCarrier, trace, withDistributedTraceContext } from 'tracebaton';

const tracer = Tracer.init({ otlpEndpoint: process.env.COLLECTOR, otlpProtocol: 'http/json', serviceName: 'other' });
const ask = trace({ eventName: 'ask' }, async () => {
  await null;
  const response = await fetch(process.env.ECHO, { headers: injectContextIntoCarrier({}) });
  return response.json();
});
const caller = { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', baggage: 'session_id=s-1,a=1;p' };
const headers = await withDistributedTraceContext(caller, tracer, ask);
const delivered = await tracer.flush(5_000);

const { cases } = JSON.parse(readFileSync(process.env.VECTORS, 'utf8'));
const vectors = cases.map(({ input }) => {
  const memory = Tracer.init({ exporter: 'memory', sessionId: 'own' });
  let traceparent;
  withDistributedTraceContext(input.carrier, memory, () => {
    traceparent = injectContextIntoCarrier({}, memory).traceparent;
  });
  return { traceparent, dropped: Object.keys(memory.stats().inboundDropped).sort() };
});
console.log(JSON.stringify({ headers, delivered, vectors }));
