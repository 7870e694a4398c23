// Makes a tracer of its own, as programs do that know this package, and asks a server.
import { trace } from '@opentelemetry/api';
import { Tracer, getTracer } from 'tracebaton';

const tracer = Tracer.init({ sessionId: 'mine' });
if (getTracer() !== tracer) throw new Error('another tracer is meant');
await trace.getTracer('library').startActiveSpan('library', async (span) => {
  process.stdout.write(await (await fetch(process.argv[2])).text());
  span.end();
});
