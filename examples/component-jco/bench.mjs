// Calls per second of extract and inject, beside OpenTelemetry's propagator for JavaScript: prints one JSON line per
// round, the component and its peer in turn. node bench.mjs ROUNDS MILLISECONDS

import { ROOT_CONTEXT, defaultTextMapGetter, defaultTextMapSetter } from "@opentelemetry/api";
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from "@opentelemetry/core";

import { propagation } from "./generated/context.js";

const [rounds, millis] = process.argv.slice(2).map(Number);
const carrier = {
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  tracestate: "vendor=1,other=2",
  baggage: "session_id=4f1e2d3c,user=alice,plan=pro",
};
const peer = new CompositePropagator({
  propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()],
});

function perSecond(f) {
  const start = performance.now();
  let calls = 0;
  for (; performance.now() - start < millis; calls += 20) for (let i = 0; i < 20; i++) f();
  return (calls / (performance.now() - start)) * 1000;
}

function ours() {
  const { span, session, baggage } = propagation.extract(Object.entries(carrier), undefined);
  return propagation.inject([], { span, session, application: [], isApiView: false, inbound: baggage });
}

function theirs() {
  const out = {};
  peer.inject(peer.extract(ROOT_CONTEXT, carrier, defaultTextMapGetter), out, defaultTextMapSetter);
  return out;
}

// V8 compiles what runs often.
perSecond(ours);
perSecond(theirs);
for (let round = 0; round < rounds; round++) {
  console.log(JSON.stringify({ ours: perSecond(ours), peer: perSecond(theirs) }));
}
