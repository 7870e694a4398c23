// A Lambda function: `lambdaHandler` takes in the caller, begins a session, and delivers before the freeze.
import { Tracer, enrichSpanContext } from 'tracebaton';
import { lambdaHandler } from 'tracebaton/lambda';

// Once per cold start. It opens no connection and waits for nothing.
const tracer = Tracer.init({ project: 'lambda-example', source: 'lambda' });

export const handler = lambdaHandler(async (event) => {
  const { question = '' } = JSON.parse(event.body || '{}');
  const answer = await enrichSpanContext({ eventName: 'answer', eventType: 'model', inputs: { question } }, async () => {
    const answer = `${question.length} characters`;
    tracer.enrichSpan({ outputs: { answer } });
    return answer;
  });
  return { statusCode: 200, body: JSON.stringify({ answer }) };
});
