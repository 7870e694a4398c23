// A Fastify application with OpenTelemetry's instrumentation of it, and with our plugin.
const { FastifyOtelInstrumentation } = require('@fastify/otel');
const { getTracer } = require('tracebaton');
const { fastifyPlugin } = require('tracebaton/fastify');

const tracer = getTracer();
const instrumentation = new FastifyOtelInstrumentation();
instrumentation.setTracerProvider(tracer.provider);
const app = require('fastify')();
(async () => {
  await app.register(instrumentation.plugin());
  await app.register(fastifyPlugin, { tracer });
  app.get('/users/:id', async (request) => {
    tracer.startSpan('inner').end();
    return { id: request.params.id };
  });
  console.log(await app.listen({ port: 0, host: '127.0.0.1' }));
})();
