// A service that got a request and sends one, with the tracebaton component as JavaScript (`npm run transpile`): reads the
// caller's headers, makes a span, writes the headers of the next request, and prints both and the span as OTLP/JSON.
//
//     node service.mjs 'traceparent: 00-…' 'baggage: session_id=…'

import { propagation, spans } from "./generated/context.js";

const headers = process.argv.slice(2).map((line) => line.split(/: (.*)/s).slice(0, 2));

const start = spans.now();
const inbound = propagation.extract(headers, undefined);
const context = propagation.newChild(inbound.span, undefined);

const injected = propagation.inject([], {
  span: context,
  session: inbound.session,
  source: "component-jco",
  application: [],
  isApiView: false,
  inbound: inbound.baggage,
  destination: "http://agent:8080/",
});
for (const [name, value] of injected.headers) console.log(`${name}: ${value}`);

const span = spans.build(
  {
    context,
    parent: inbound.span,
    name: "answer",
    kind: "server",
    startNs: start.unixNs,
    endNs: spans.since(start),
    attributes: [["app.answers", [{ tag: "integer", val: 1n }]]],
    events: [],
    links: [],
    statuses: [],
  },
  { session: inbound.session, otelSession: inbound.session, source: "component-jco" },
  undefined,
);
const resource = [["service.name", [{ tag: "text", val: "component-jco" }]]];
const run = { scopeName: "component-jco", scopeVersion: "", scopeAttributes: [], schemaUrl: "", spans: [span] };
console.log(spans.encodeJson(resource, [run], "numbers"));
