// What @opentelemetry/core reads in the headers of cases.jsonl, a line for each: node node_sdk.mjs MODULES CASES OUT.

import { createWriteStream, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [modules, cases, out] = process.argv.slice(2);
const require = createRequire(`${resolve(modules)}/`);
const { ROOT_CONTEXT, defaultTextMapGetter, propagation, trace } = require("@opentelemetry/api");
const { W3CBaggagePropagator, W3CTraceContextPropagator } = require("@opentelemetry/core");

const TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const traceContext = new W3CTraceContextPropagator();
const baggage = new W3CBaggagePropagator();

function read(kind, values) {
  // As Node has headers: a string, or a list of them where there are several.
  const value = values.length === 1 ? values[0] : values;
  if (kind === "baggage") {
    const context = baggage.extract(ROOT_CONTEXT, { baggage: value }, defaultTextMapGetter);
    const entries = propagation.getBaggage(context)?.getAllEntries() ?? [];
    return entries.map(([name, entry]) => [name, entry.value, entry.metadata?.toString() ?? ""]);
  }
  const context = traceContext.extract(ROOT_CONTEXT, { traceparent: TRACEPARENT, [kind]: value }, defaultTextMapGetter);
  const span = trace.getSpanContext(context);
  if (kind === "traceparent") return span ? [span.traceId, span.spanId, span.traceFlags] : null;
  // It gives its members as a header only.
  const text = span.traceState?.serialize() ?? "";
  return text === "" ? [] : text.split(",").map((member) => member.split(/=(.*)/s).slice(0, 2));
}

const answers = createWriteStream(out);
for (const line of readFileSync(cases, "utf8").split("\n")) {
  if (line === "") continue;
  const { kind, values } = JSON.parse(line);
  answers.write(`${JSON.stringify(read(kind, values))}\n`);
}
answers.end();
