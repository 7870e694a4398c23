// Instrumentations of model libraries on our provider: their spans are in the tree and session of the program.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';

import { LangChainInstrumentation } from '@arizeai/openinference-instrumentation-langchain';
import { OpenAIInstrumentation } from '@arizeai/openinference-instrumentation-openai';
import * as CallbackManager from '@langchain/core/callbacks/manager';
import { ChatPromptTemplate } from '@langchain/core/prompts';
import { ChatOpenAI } from '@langchain/openai';
import { generateText, streamText, tool } from 'ai';
import { MockLanguageModelV2, simulateReadableStream } from 'ai/test';
import OpenAI from 'openai';
import { Tracer, trace } from 'tracebaton';
import { instrument } from 'tracebaton/instrument';
import { z } from 'zod';

import { standIn } from './programs/llm.mjs';
import { CLIENT, listening, recorded, until } from './support.mjs';

const tracer = Tracer.init({ exporter: 'memory', sessionId: 'own' });
const undo = instrument({ server: false });
const llm = standIn();
let openai;
let known;

before(async () => {
  llm.url = await listening(llm);
  openai = new OpenAI({ apiKey: 'key', baseURL: `${llm.url}/v1`, maxRetries: 0 });
  const instrumentation = new OpenAIInstrumentation({ tracerProvider: tracer.provider });
  instrumentation.manuallyInstrument(OpenAI);
  const langchain = new LangChainInstrumentation({ tracerProvider: tracer.provider });
  langchain.manuallyInstrument(CallbackManager);
});
after(() => {
  undo();
  llm.close();
  llm.closeAllConnections();
});
beforeEach(() => {
  llm.requests.length = 0;
  known = tracer.recorded().length;
});

async function spans(count) {
  const found = await until(() => {
    const found = recorded(tracer).slice(known);
    return found.length >= count && found;
  }, () => `${count} spans; there are ${recorded(tracer).slice(known).map((span) => span.name)}`);
  assert.equal(found.length, count, found.map((span) => span.name).join(', '));
  for (const span of found) assert.equal(span.session, 'mine');
  assert.equal(new Set(found.map((span) => span.traceId)).size, 1);
  return found;
}

const inSession = (fn) => tracer.withSession({ sessionId: 'mine', skipApiCall: true }, fn);
const messages = [{ role: 'user', content: 'Hi' }];

test('OpenAI by OpenInference', async () => {
  const ask = trace({ eventType: 'chain', eventName: 'agent', capture: false }, async () => {
    const answer = await openai.chat.completions.create({ model: 'm', messages });
    return answer.choices[0].message.content;
  });
  assert.equal(await inSession(ask), 'Hello');
  const found = await spans(3);
  const [agent, model, http] = ['agent', 'OpenAI Chat Completions', 'POST'].map((name) => found.find((span) => span.name === name));
  assert.equal(model.parentSpanId, agent.spanId);
  assert.equal(http.parentSpanId, model.spanId);
  assert.equal(http.kind, CLIENT);
  assert.equal(model.attributes['openinference.span.kind'], 'LLM');
  assert.equal(model.attributes.honeyhive_event_type, 'model');
  assert.equal(model.attributes['llm.token_count.total'], 4);
  assert.match(llm.requests[0].headers.traceparent, new RegExp(http.spanId));
});

test('OpenAI by OpenInference, streamed', async () => {
  const text = await inSession(() => tracer.startSpan('agent', async () => {
    let text = '';
    for await (const part of await openai.chat.completions.create({ model: 'm', messages, stream: true })) text += part.choices[0].delta.content ?? '';
    return text;
  }));
  assert.equal(text, 'Hello');
  const found = await spans(3);
  const model = found.find((span) => span.name === 'OpenAI Chat Completions');
  assert.equal(model.attributes['llm.output_messages.0.message.content'], 'Hello');
});

test('OpenAI by OpenInference, an error', async () => {
  await assert.rejects(inSession(() => openai.chat.completions.create({ model: 'broken', messages })), /no such model/);
  // That instrumentation does not end its own span then (4.2.7).
  const [http] = await spans(1);
  assert.equal(http.attributes['error.type'], '400');
  assert.ok(http.parentSpanId);
});

test('LangChain by OpenInference', async () => {
  const model = new ChatOpenAI({ model: 'm', apiKey: 'key', configuration: { baseURL: `${llm.url}/v1` }, maxRetries: 0 });
  const chain = ChatPromptTemplate.fromMessages([['user', 'Say {what}']]).pipe(model);
  const answer = await inSession(() => tracer.startSpan('agent', () => chain.invoke({ what: 'hello' })));
  assert.equal(answer.content, 'Hello');
  const found = await until(() => {
    const found = recorded(tracer).slice(known);
    return found.some((span) => span.name === 'RunnableSequence') && found;
  });
  const name = (text) => found.find((span) => span.name === text);
  assert.equal(name('RunnableSequence').parentSpanId, name('agent').spanId);
  assert.equal(name('ChatOpenAI').parentSpanId, name('RunnableSequence').spanId);
  assert.equal(name('ChatPromptTemplate').parentSpanId, name('RunnableSequence').spanId);
  assert.equal(name('ChatOpenAI').attributes.honeyhive_event_type, 'model');
  assert.ok(found.every((span) => span.session === 'mine' && span.traceId === name('agent').traceId));
});

const usage = { inputTokens: 3, outputTokens: 1, totalTokens: 4 };

test('the AI SDK of Vercel: generateText with a tool', async () => {
  let calls = 0;
  const model = new MockLanguageModelV2({
    doGenerate: async () => {
      calls++;
      const content = calls === 1 ? [{ type: 'tool-call', toolCallId: 't1', toolName: 'weather', input: '{"city":"Bonn"}' }] : [{ type: 'text', text: 'Rain' }];
      return { content, finishReason: calls === 1 ? 'tool-calls' : 'stop', usage, warnings: [] };
    },
  });
  const weather = tool({
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => tracer.startSpan('lookup', () => `rain in ${city}`),
  });
  const { text } = await inSession(() => tracer.startSpan('agent', () => generateText({
    model, prompt: 'Weather?', tools: { weather }, stopWhen: ({ steps }) => steps.length === 2,
    experimental_telemetry: { isEnabled: true, tracer: tracer.provider.getTracer('ai') },
  })));
  assert.equal(text, 'Rain');
  const found = await spans(6);
  const name = (text) => found.filter((span) => span.name === text);
  const [agent, all, call, lookup] = ['agent', 'ai.generateText', 'ai.toolCall', 'lookup'].map((text) => name(text)[0]);
  assert.equal(all.parentSpanId, agent.spanId);
  assert.deepEqual(name('ai.generateText.doGenerate').map((span) => span.parentSpanId), [all.spanId, all.spanId]);
  assert.equal(call.parentSpanId, all.spanId);
  assert.equal(lookup.parentSpanId, call.spanId);
});

test('the AI SDK of Vercel: streamText', async () => {
  const chunks = [
    { type: 'stream-start', warnings: [] },
    { type: 'text-start', id: '1' }, { type: 'text-delta', id: '1', delta: 'Hel' }, { type: 'text-delta', id: '1', delta: 'lo' }, { type: 'text-end', id: '1' },
    { type: 'finish', finishReason: 'stop', usage },
  ];
  const model = new MockLanguageModelV2({ doStream: async () => ({ stream: simulateReadableStream({ chunks }) }) });
  const text = await inSession(() => tracer.startSpan('agent', async () => {
    const { textStream } = streamText({ model, prompt: 'Hi', experimental_telemetry: { isEnabled: true, tracer: tracer.provider.getTracer('ai') } });
    let text = '';
    for await (const part of textStream) text += part;
    return text;
  }));
  assert.equal(text, 'Hello');
  const found = await spans(3);
  const name = (text) => found.find((span) => span.name === text);
  assert.equal(name('ai.streamText').parentSpanId, name('agent').spanId);
  assert.equal(name('ai.streamText.doStream').parentSpanId, name('ai.streamText').spanId);
});
