// The first service: it starts the trace and calls the second one.
import { Tracer, injectContextIntoCarrier, trace } from 'tracebaton';

const tracer = Tracer.init({ project: 'quickstart', source: 'gateway', serviceName: 'gateway' });

const ask = trace({ eventType: 'chain', eventName: 'ask' }, async (agent, question) => {
  const headers = injectContextIntoCarrier({ 'content-type': 'application/json' });
  const response = await fetch(`${agent}/answer`, { method: 'POST', headers, body: JSON.stringify({ question }) });
  return (await response.json()).reply;
});

console.log(await ask(process.argv[2], 'What is six times seven?'));
console.log(`session ${tracer.sessionId}`);
await tracer.flush();
