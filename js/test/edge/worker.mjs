// The Worker of the tests: what it does, its path says.
import * as tracebaton from 'tracebaton';
import { wrapFetch } from 'tracebaton/fetch';

const { Tracer, instrumentWorker, trace, enrichSpanContext, withDistributedTraceContext, injectContextIntoCarrier } =
  tracebaton;
const { extractContextFromCarrier, getTracer, explain } = tracebaton;

/** The function of the module that traps when it is called next, as if it had a fault. */
let traps;
const { Instance } = WebAssembly;
WebAssembly.Instance = function (module, imports) {
  const { exports } = new Instance(module, imports);
  const faulty = { ...exports };
  for (const name of ['call', 'submit', 'poll']) {
    faulty[name] = (...values) => {
      if (traps === name) {
        traps = undefined;
        throw new WebAssembly.RuntimeError('unreachable');
      }
      return exports[name](...values);
    };
  }
  return { exports: faulty };
};

// At module scope there is no time, no random number and no session.
const tracer = Tracer.init({ serviceName: 'edge', otlpEndpoint: COLLECTOR, otlpProtocol: 'http/json', ...OPTIONS });
const sessionAtModuleScope = tracer.sessionId;

// Every tracer of the vectors is another one.
let serial = 1;
const SPAN_KEY = Symbol.for('OpenTelemetry Context Key SPAN');
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const step = trace({ eventType: 'tool', eventName: 'step' }, async (number) => {
  await pause(Math.random() * 5);
  return number * 2;
});

const paths = {
  async '/hop'(request, env) {
    const doubled = await step(21);
    const fetch = wrapFetch();
    const outside = await (await fetch(`${ECHO}/outside`)).json();
    return { doubled, outside, session: tracer.sessionId };
  },
  async '/binding'(request, env) {
    const fetch = wrapFetch(env.BACKEND.fetch.bind(env.BACKEND));
    const near = await (await fetch('http://backend/near')).json();
    const far = await (await fetch('https://backend.example.com/far')).json();
    return { near, far, session: tracer.sessionId };
  },
  async '/user'(request) {
    const before = tracer.sessionId;
    await step(1);
    const headers = injectContextIntoCarrier({});
    await pause(Math.random() * 10);
    return { before, after: tracer.sessionId, headers };
  },
  async '/order'() {
    await enrichSpanContext({ eventName: 'outer' }, async () => {
      enrichSpanContext({ eventName: 'first' }, () => {});
      enrichSpanContext({ eventName: 'second' }, () => {});
    });
    return {};
  },
  async '/late'(request, env, ctx) {
    const late = tracer.startSpan('late');
    ctx.waitUntil(pause(200).then(() => late.end()));
    return {};
  },
  '/throws'() {
    throw new Error('the handler failed');
  },
  async '/env'(request, env) {
    const one = Tracer.init({ exporter: 'none' }, env);
    return { same: one === Tracer.init({ exporter: 'none' }, { ...env }), other: one === Tracer.init({ exporter: 'none' }, {}), project: one.project };
  },
  async '/trap'(request) {
    const before = await step(1);
    traps = new URL(request.url).searchParams.get('in');
    const during = await step(2);
    const headers = injectContextIntoCarrier({});
    await tracer.flush(1_000);
    traps = undefined;
    const after = await step(3);
    return { before, during, after, headers };
  },
};

function respond(request, env, ctx) {
  const { pathname } = new URL(request.url);
  const found = paths[pathname];
  if (found === undefined) return new Response('', { status: 404 });
  const result = found(request, env, ctx);
  return result.then((value) => Response.json(value));
}

const traced = instrumentWorker({ fetch: respond });

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    if (pathname === '/module-scope') return Response.json({ sessionAtModuleScope, isDefault: getTracer() === tracer });
    if (pathname === '/stats') return Response.json(tracer.stats());
    if (pathname === '/vectors') return Response.json(vectors(await request.json()));
    if (pathname === '/block') {
      return withDistributedTraceContext(
        request.headers,
        tracer,
        async () => {
          await step(4);
          return Response.json({ session: tracer.sessionId, headers: injectContextIntoCarrier({}) });
        },
        ctx,
      );
    }
    return traced.fetch(request, env, ctx);
  },
};

/** What comes of the cases of the vectors `extract`. */
function vectors(cases) {
  return cases.map(({ carrier, policy }) => {
    const one = Tracer.init({ exporter: ['memory', 'none'].slice(0, 1), sessionId: 'own', source: 'test', policy, limits: { events: serial++ } });
    const got = {};
    withDistributedTraceContext(carrier, one, (context) => {
      const span = context.getValue(SPAN_KEY)?.spanContext();
      got.span = span && {
        trace_id: span.traceId,
        span_id: span.spanId,
        flags: span.traceFlags,
        tracestate: span.traceState?.serialize() ?? '',
      };
      one.startSpan('s').end();
      got.sent = injectContextIntoCarrier({}, one);
    });
    got.dropped = Object.keys(one.stats().inboundDropped);
    got.recorded = one.recorded();
    got.findings = explain(carrier, { policy }).length;
    return got;
  });
}
