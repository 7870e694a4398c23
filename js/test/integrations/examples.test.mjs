// The examples, as they are, against an installation of the package.
import assert from 'node:assert/strict';
import { cpSync, rmSync } from 'node:fs';
import { after, before, beforeEach, test } from 'node:test';

import { Collector, Program, SERVER, here, until } from './support.mjs';

// In here, the packages are found that the examples need.
const FOLDER = 'node_modules/.examples';
const program = (name) => `../${FOLDER}/${name}`;
let collector;

before(async () => {
  collector = await Collector.start();
  for (const name of ['node-quickstart', 'node-lambda', 'node-sessions']) cpSync(here(`../../../examples/${name}`), here(`${FOLDER}/${name}`), { recursive: true });
});
after(() => {
  collector.close();
  rmSync(here(FOLDER), { recursive: true });
});
beforeEach(() => (collector.spans = []));

test('quickstart: two services are one tree in one session', async () => {
  const agent = await Program.serve(program('node-quickstart/agent.mjs'), { collector });
  const gateway = await Program.run(program('node-quickstart/gateway.mjs'), { collector, args: [agent.url] });
  const [answer, session] = gateway.output.trim().split('\n');
  assert.equal(answer, '42');
  const spans = await collector.wait(3);
  const [ask, server, think] = ['ask', 'POST /answer', 'think'].map((name) => spans.find((span) => span.name === name));
  assert.equal(server.parentSpanId, ask.spanId);
  assert.equal(think.parentSpanId, server.spanId);
  for (const span of spans) assert.equal(`session ${span.session}`, session);
  assert.equal(think.attributes['honeyhive_inputs.question'], 'What is six times seven?');
  assert.equal(think.attributes['honeyhive_outputs.reply'], '42');
  assert.equal(agent.errors + gateway.errors, '');
  await agent.stop();
});

test('sessions: one for every conversation, in spans and log records', async () => {
  const chat = await Program.serve(program('node-sessions/chat.mjs'), { collector });
  const say = async (text) => (await fetch(`${chat.url}/conversations`, { method: 'POST', body: JSON.stringify({ text }) })).json();
  const answers = await Promise.all(['one', 'two', 'three'].map(say));
  assert.deepEqual(answers.map(({ answer }) => answer), ['You said one.', 'You said two.', 'You said three.']);
  const spans = await until(() => collector.spans.filter((span) => span.name === 'reply').length === 3 && collector.spans);
  const records = await until(() => {
    const lines = chat.errors.trim().split('\n');
    return lines.length === 3 && lines.map((line) => JSON.parse(line));
  });
  for (const { sessionId, answer } of answers) {
    const reply = spans.find((span) => span.session === sessionId && span.name === 'reply');
    assert.equal(reply.attributes['honeyhive_outputs.result'], answer);
    const record = records.find((record) => record.session_id === sessionId);
    assert.equal(record.trace_id, reply.traceId);
    assert.equal(record.span_id, reply.parentSpanId);
  }
  await chat.stop();
});

test('Lambda: each invocation delivers before it returns', async () => {
  for (const [name, value] of Object.entries(collector.environment('lambda'))) process.env[name] = value;
  const { handler } = await import(`./${FOLDER}/node-lambda/handler.mjs`);
  const event = { body: '{"question":"why?"}', httpMethod: 'POST', path: '/', headers: { Traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' } };
  assert.deepEqual(await handler(event, { functionName: 'agent' }), { statusCode: 200, body: '{"answer":"4 characters"}' });
  assert.equal(collector.spans.length, 2);
  assert.equal(collector.spans.find((span) => span.kind === SERVER).parentSpanId, 'b7ad6b7169203331');
});
