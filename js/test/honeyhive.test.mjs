// The two ways of HoneyHive's documentation, over two processes: the whole context, or the session's id alone.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';

import {
  HoneyHiveTracer,
  enrichSpanContext,
  enrich_span_context,
  flush,
  inject_context_into_carrier,
} from '../dist/esm/index.mjs';
import { startCollector } from './collector.mjs';

let collector;
before(async () => {
  collector = await startCollector();
});
after(() => collector.close());

const init = (options) =>
  HoneyHiveTracer.init({ apiKey: 'key', serverUrl: collector.url, project: 'demo', flushInterval: 1, ...options });
const byName = (name) => collector.spans.find((span) => span.name === name);

test('trace and session over two services, by headers', async () => {
  const env = { ...process.env, HH_API_KEY: 'key', HH_API_URL: collector.url, HH_PROJECT: 'demo' };
  const agent = fork(new URL('programs/agent.mjs', import.meta.url), { env });
  const [port] = await once(agent, 'message');
  const tracer = init({ source: 'client', sessionName: 'conversation' });
  const text = await enrich_span_context({ event_name: 'user_call', tracer, inputs: { question: 'why' } }, () =>
    enrichSpanContext({ eventName: 'call_agent_1' }, async () => {
      const headers = inject_context_into_carrier({ 'content-type': 'text/plain' }, tracer);
      const response = await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', headers, body: 'why' });
      const answer = await response.text();
      tracer.enrichSpan({ outputs: { answer } });
      return answer;
    }),
  );
  assert.equal(text, 'about why');
  agent.send('end');
  await once(agent, 'exit');
  assert.equal(await flush(tracer), true);
  const [call, remote, run, tool] = ['user_call', 'call_agent_1', 'agent_run', 'look_up'].map(byName);
  assert.equal(remote.parentSpanId, call.spanId);
  assert.equal(run.parentSpanId, remote.spanId);
  assert.equal(tool.parentSpanId, run.spanId);
  for (const span of [call, remote, run, tool]) {
    assert.equal(span.traceId, call.traceId);
    assert.equal(span.attributes['honeyhive.session_id'], tracer.sessionId);
    assert.equal(span.attributes['honeyhive.project'], 'demo');
  }
  assert.deepEqual(
    [call, run].map(({ attributes }) => attributes['honeyhive.source']),
    ['client', 'agent'],
  );
  assert.deepEqual(
    [run, tool].map(({ attributes }) => attributes.honeyhive_event_type),
    ['chain', 'tool'],
  );
  assert.equal(run.attributes['honeyhive_metrics.score'], 0.9);
  assert.equal(tool.attributes['honeyhive_inputs.apiKey'], '[redacted]');
  assert.equal(tool.attributes['honeyhive_outputs.result'], 'about why');
  // The session is registered by the one whose it is, and by nobody else.
  const registered = collector.requests.filter(({ path }) => path === '/session/start').map(({ json }) => json.session);
  assert.deepEqual(
    registered.map(({ session_id }) => session_id),
    [tracer.sessionId],
  );
  assert.equal(registered[0].session_name, 'conversation');
});

test('one session by its id alone', async () => {
  const first = init();
  const second = init({ sessionId: first.sessionId });
  first.startSpan('first').end();
  second.startSpan('second').end();
  assert.equal(await flush(), true);
  assert.equal(byName('first').attributes['honeyhive.session_id'], byName('second').attributes['honeyhive.session_id']);
  assert.notEqual(byName('first').traceId, byName('second').traceId);
});

test('a session for each invocation of a warm function', async () => {
  const tracer = init();
  const handler = async (event) =>
    tracer.withSession({ sessionName: `lambda-${event.id}`, inputs: event }, async (sessionId) => {
      await enrichSpanContext({ eventName: `handle ${event.id}` }, async () => {});
      tracer.enrichSession({ outputs: { done: event.id } });
      await tracer.flush();
      return sessionId;
    });
  const sessions = await Promise.all(['a', 'b'].map((id) => handler({ id })));
  assert.notEqual(...sessions);
  await collector.until(() =>
    sessions.every((id) => collector.requests.some(({ path, json }) => path === '/events' && json.event_id === id)),
  );
  assert.deepEqual(
    ['handle a', 'handle b'].map((name) => byName(name).attributes['honeyhive.session_id']),
    sessions,
  );
});
