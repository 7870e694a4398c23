// A service of Hono with a session for every conversation, and log records that say where they come from.
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import pino from 'pino';
import { Tracer, trace } from 'tracebaton';
import { honoMiddleware } from 'tracebaton/hono';
import { pinoMixin } from 'tracebaton/logs';

const tracer = Tracer.init({ project: 'sessions-example', source: 'chat', serviceName: 'chat' });
const log = pino({ mixin: pinoMixin(tracer) }, pino.destination({ dest: 2, sync: true }));

const reply = trace({ eventType: 'model', eventName: 'reply' }, async (text) => `You said ${text}.`);

const app = new Hono();
app.use(honoMiddleware({ tracer }));
app.post('/conversations', async (c) => {
  const { text } = await c.req.json();
  // From here on, this request is in a session of its own, whatever other requests do meanwhile.
  const sessionId = tracer.createSession({ sessionName: 'conversation', inputs: { text } });
  const answer = await reply(text);
  log.info('answered');
  tracer.enrichSession({ outputs: { answer } });
  return c.json({ sessionId, answer });
});

const server = serve({ fetch: app.fetch, port: Number(process.env.PORT ?? 0), hostname: '127.0.0.1' }, ({ port }) => {
  console.log(`http://127.0.0.1:${port}`);
});
process.once('SIGTERM', () => server.close());
