// What an application does that has OpenTelemetry's instrumentations: of an SDK (SDK=1), or of a tracer of ours.
const { registerInstrumentations } = require('@opentelemetry/instrumentation');
const { ExpressInstrumentation } = require('@opentelemetry/instrumentation-express');
const { HttpInstrumentation } = require('@opentelemetry/instrumentation-http');
const { UndiciInstrumentation } = require('@opentelemetry/instrumentation-undici');

let provider;
if (process.env.SDK) {
  const { OTLPTraceExporter } = require('@opentelemetry/exporter-trace-otlp-http');
  const { SimpleSpanProcessor, NodeTracerProvider } = require('@opentelemetry/sdk-trace-node');
  const exporter = new OTLPTraceExporter({ url: `${process.env.OTEL_EXPORTER_OTLP_ENDPOINT}/v1/traces` });
  provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  provider.register();
} else if (process.env.OURS) {
  provider = require('tracebaton').Tracer.init().provider;
}
if (!process.env.BARE) {
  registerInstrumentations({
    ...(provider && { tracerProvider: provider }),
    instrumentations: [new HttpInstrumentation(), new UndiciInstrumentation(), new ExpressInstrumentation()],
  });
}
