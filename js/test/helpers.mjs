// What tests share: the vectors that every language reads, and spans as the exporter `memory` has them.
import { readFileSync } from 'node:fs';

import { Tracer } from '../dist/esm/index.mjs';

const VECTORS = new URL('../../tests/vectors/', import.meta.url);

/** A value with `$text`, `$join` and `$list` written out, innermost first. */
export function writtenOut(value) {
  if (Array.isArray(value)) return value.map(writtenOut);
  if (value === null || typeof value !== 'object') return value;
  const inner = Object.fromEntries(Object.entries(value).map(([key, item]) => [key, writtenOut(item)]));
  if (inner.$text) return inner.$text[0].repeat(inner.$text[1]);
  if (inner.$join) return inner.$join.join('');
  if (inner.$list) return Array(inner.$list[1]).fill(inner.$list[0]);
  return inner;
}

/** The cases of a file that a test is about. */
export function cases(file, wanted = () => true) {
  const { cases: all } = JSON.parse(readFileSync(new URL(`${file}.json`, VECTORS), 'utf8'));
  const chosen = all.map(writtenOut).filter(wanted);
  if (chosen.length === 0) throw new Error(`no case of ${file} is wanted`);
  return chosen;
}

/** A tracer that keeps its spans, without the environment's say. */
export function makeTracer(options = {}) {
  return Tracer.init({ exporter: 'memory', sessionId: 'own', source: 'test', ...options });
}

/** A value of OTLP/JSON as a plain one; integers are numbers. */
export function valueOf(value) {
  if (value === undefined || Object.keys(value).length === 0) return null;
  const [[kind, inner]] = Object.entries(value);
  switch (kind) {
    case 'intValue':
      return Number(inner);
    case 'arrayValue':
      return (inner.values ?? []).map(valueOf);
    case 'kvlistValue':
      return Object.fromEntries((inner.values ?? []).map(({ key, value: item }) => [key, valueOf(item)]));
    default:
      return inner;
  }
}

/** Attributes of OTLP/JSON as a plain object. */
export function attributesOf(list = []) {
  return Object.fromEntries(list.map(({ key, value }) => [key, valueOf(value)]));
}

/** The spans that a tracer has recorded, by what tests ask for. */
export function spansOf(tracer) {
  return tracer.recorded().map((span) => ({
    ...span,
    attributes: attributesOf(span.attributes),
    session: attributesOf(span.attributes)['honeyhive.session_id'],
    project: attributesOf(span.attributes)['honeyhive.project'] ?? null,
    events: (span.events ?? []).map((event) => ({ ...event, attributes: attributesOf(event.attributes) })),
    links: (span.links ?? []).map((link) => ({ ...link, attributes: attributesOf(link.attributes) })),
  }));
}

/** The one span that a tracer has recorded. */
export function onlySpan(tracer) {
  const spans = spansOf(tracer);
  if (spans.length !== 1) throw new Error(`${spans.length} spans were recorded, not one`);
  return spans[0];
}

export const CALLER = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
