// A stand-in for a model's HTTP interface, in the format of OpenAI: plain answers, streams, tool calls.
import { createServer } from 'node:http';

/** A server that answers chat completions; `requests` holds what it was sent. */
export function standIn() {
  const server = createServer(async (request, response) => {
    const parts = await request.toArray();
    const body = JSON.parse(Buffer.concat(parts));
    server.requests.push({ body, headers: request.headers });
    const base = { id: 'c1', created: 1, model: body.model };
    if (body.model === 'broken') {
      response.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify({ error: { message: 'no such model' } }));
    } else if (body.stream) {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      for (const text of ['Hel', 'lo']) {
        response.write(`data: ${JSON.stringify({ ...base, object: 'chat.completion.chunk', choices: [{ index: 0, delta: { role: 'assistant', content: text } }] })}\n\n`);
      }
      response.write(`data: ${JSON.stringify({ ...base, object: 'chat.completion.chunk', choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })}\n\n`);
      response.end('data: [DONE]\n\n');
    } else {
      const message = { role: 'assistant', content: 'Hello' };
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ ...base, object: 'chat.completion', choices: [{ index: 0, message, finish_reason: 'stop' }], usage: { prompt_tokens: 3, completion_tokens: 1, total_tokens: 4 } }));
    }
  });
  server.requests = [];
  return server;
}
