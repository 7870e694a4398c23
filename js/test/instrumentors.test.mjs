// Instrumentors of AI libraries, unchanged, over `tracer.provider`: OpenInference for openai and langchain, the AI SDK.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import { enrichSpanContext, trace } from '../dist/esm/index.mjs';
import { makeTracer, spansOf } from './helpers.mjs';

const require = createRequire(import.meta.url);

/** A server that speaks as OpenAI's does, whole or in a stream. */
async function startModel() {
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const { stream } = JSON.parse(Buffer.concat(chunks).toString());
    const part = (delta, finish = null) => ({
      id: 'c',
      object: 'chat.completion.chunk',
      created: 1,
      model: 'local',
      choices: [{ index: 0, delta, finish_reason: finish }],
    });
    if (stream) {
      response.setHeader('content-type', 'text/event-stream');
      for (const text of ['Hel', 'lo'])
        response.write(`data: ${JSON.stringify(part({ role: 'assistant', content: text }))}\n\n`);
      response.end(`data: ${JSON.stringify(part({}, 'stop'))}\n\ndata: [DONE]\n\n`);
      return;
    }
    response.setHeader('content-type', 'application/json');
    response.end(
      JSON.stringify({
        id: 'c',
        object: 'chat.completion',
        created: 1,
        model: 'local',
        choices: [{ index: 0, message: { role: 'assistant', content: 'Hello' }, finish_reason: 'stop' }],
        usage: { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 },
      }),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

test('OpenInference for openai: plain and streamed, under the span around it', async () => {
  const tracer = makeTracer();
  const { OpenAIInstrumentation } = require('@arizeai/openinference-instrumentation-openai');
  const instrumentation = new OpenAIInstrumentation({ tracerProvider: tracer.provider });
  const { OpenAI } = require('openai');
  instrumentation.manuallyInstrument(OpenAI);
  const server = await startModel();
  const client = new OpenAI({ apiKey: 'none', baseURL: `http://127.0.0.1:${server.address().port}/v1` });
  const messages = [{ role: 'user', content: 'Say hello' }];
  await tracer.withSession({ sessionId: 'chat' }, () =>
    enrichSpanContext({ eventName: 'agent', eventType: 'chain', tracer }, async () => {
      const { choices } = await client.chat.completions.create({ model: 'local', messages });
      assert.equal(choices[0].message.content, 'Hello');
      let text = '';
      for await (const chunk of await client.chat.completions.create({ model: 'local', messages, stream: true })) {
        text += chunk.choices[0]?.delta?.content ?? '';
      }
      assert.equal(text, 'Hello');
      // What the client returns is a promise of its own class, which `trace` leaves as it is.
      const asked = trace({ tracer, eventName: 'asked' }, () =>
        client.chat.completions.create({ model: 'local', messages }),
      )();
      assert.equal(typeof asked.withResponse, 'function');
      assert.equal((await asked).choices[0].message.content, 'Hello');
    }),
  );
  server.closeAllConnections();
  server.close();
  const spans = spansOf(tracer);
  const agent = spans.find(({ name }) => name === 'agent');
  const asked = spans.find(({ name }) => name === 'asked');
  assert.match(JSON.stringify(asked.attributes), /Hello/);
  const calls = spans.filter((span) => span !== agent && span !== asked);
  assert.equal(calls.length, 3);
  for (const call of calls) {
    assert.ok([agent.spanId, asked.spanId].includes(call.parentSpanId));
    assert.equal(call.session, 'chat');
    assert.equal(call.attributes['openinference.span.kind'], 'LLM');
    assert.equal(call.attributes.honeyhive_event_type, 'model');
  }
});

test('OpenInference for langchain', async () => {
  const tracer = makeTracer();
  const { LangChainInstrumentation } = require('@arizeai/openinference-instrumentation-langchain');
  const manager = require('@langchain/core/callbacks/manager');
  const instrumentation = new LangChainInstrumentation({ tracerProvider: tracer.provider });
  instrumentation.manuallyInstrument(manager);
  const { FakeListChatModel } = require('@langchain/core/utils/testing');
  const { PromptTemplate } = require('@langchain/core/prompts');
  const chain = PromptTemplate.fromTemplate('Say {word}').pipe(new FakeListChatModel({ responses: ['hello'] }));
  const answer = await enrichSpanContext({ eventName: 'agent', tracer }, () => chain.invoke({ word: 'hello' }));
  assert.equal(answer.content, 'hello');
  const spans = spansOf(tracer);
  assert.ok(spans.length >= 3, spans.map(({ name }) => name).join());
  assert.equal(new Set(spans.map(({ traceId }) => traceId)).size, 1);
  assert.ok(spans.some(({ attributes }) => attributes.honeyhive_event_type === 'model'));
});

test("the AI SDK's experimental_telemetry.tracer", async () => {
  const tracer = makeTracer();
  const { generateText, streamText, simulateReadableStream } = await import('ai');
  const { MockLanguageModelV3 } = await import('ai/test');
  const usage = { inputTokens: { total: 1 }, outputTokens: { total: 2 } };
  const model = new MockLanguageModelV3({
    doGenerate: async () => ({
      content: [{ type: 'text', text: 'Hello' }],
      finishReason: { unified: 'stop' },
      usage,
      warnings: [],
    }),
    doStream: async () => ({
      stream: simulateReadableStream({
        chunks: [
          { type: 'text-start', id: '1' },
          { type: 'text-delta', id: '1', delta: 'Hel' },
          { type: 'text-delta', id: '1', delta: 'lo' },
          { type: 'text-end', id: '1' },
          { type: 'finish', finishReason: { unified: 'stop' }, usage },
        ],
      }),
    }),
  });
  const experimental_telemetry = { isEnabled: true, tracer: tracer.tracer, functionId: 'greet' };
  await trace({ tracer, eventName: 'agent' }, async () => {
    assert.equal((await generateText({ model, prompt: 'Say hello', experimental_telemetry })).text, 'Hello');
    let text = '';
    for await (const part of streamText({ model, prompt: 'Say hello', experimental_telemetry }).textStream)
      text += part;
    assert.equal(text, 'Hello');
  })();
  const spans = spansOf(tracer);
  const names = spans.map(({ name }) => name).sort();
  for (const name of ['ai.generateText', 'ai.generateText.doGenerate', 'ai.streamText', 'ai.streamText.doStream'])
    assert.ok(names.includes(name), names.join());
  assert.equal(new Set(spans.map(({ traceId }) => traceId)).size, 1);
});
