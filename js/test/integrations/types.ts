// How TypeScript programs use the integrations; `types.test.mjs` has the compiler read it.
import express from 'express';
import Fastify5 from 'fastify';
import Fastify4 from 'fastify4';
import { Hono } from 'hono';
import { createServer } from 'node:http';
import pino from 'pino';
import { Policy, Tracer } from 'tracebaton';
import { expressErrors, expressMiddleware, type RequestOptions } from 'tracebaton/express';
import { fastifyPlugin } from 'tracebaton/fastify';
import { tracedFetch, wrapFetch } from 'tracebaton/fetch';
import { honoMiddleware } from 'tracebaton/hono';
import { instrument } from 'tracebaton/instrument';
import { lambdaCarrier, lambdaHandler } from 'tracebaton/lambda';
import { logFields, pinoMixin } from 'tracebaton/logs';
import 'tracebaton/register';
import * as undici from 'undici';

const tracer = Tracer.init({ exporter: 'none' });
const options: RequestOptions = { tracer, policy: { inbound: 'restart' }, spans: true, sessions: false };

await Fastify5().register(fastifyPlugin, { tracer, policy: new Policy() });
await Fastify4().register(fastifyPlugin, options);
new Hono().use(honoMiddleware(options));
const middleware = expressMiddleware(options);
createServer((request, response) => middleware(request, response, () => response.end()));
express().use(middleware, expressErrors());

const text: string = await (await tracedFetch('http://localhost')).text();
const wrapped = wrapFetch(undici.fetch, { tracer });
const response: undici.Response = await wrapped('http://localhost', { dispatcher: new undici.Agent() });
const plain: typeof fetch = wrapFetch();
const undo: () => void = instrument({ tracer, server: false });

export const handler = lambdaHandler(async (event: { body?: string }) => ({ statusCode: 200, body: event.body }), { flushMillis: 500, ...options });
const result: { statusCode: number } = await handler({});
lambdaCarrier({});

pino({ mixin: pinoMixin(tracer) }).info({ ...logFields() });
const id: string | undefined = logFields(tracer).session_id;

// @ts-expect-error an option of another name
expressMiddleware({ session: true });
// @ts-expect-error an option of another type
wrapFetch(fetch, { spans: 1 });

void [text, response, plain, undo, result, id];
