/**
 * A plugin for Fastify 4 and 5.
 *
 *     await app.register(fastifyPlugin, { tracer });
 *
 * Every request goes on in its caller's trace and session, with a SERVER span named after its route. It is for the whole
 * application, wherever it is registered; hooks and handlers from there on run in the request's context.
 */

import { within } from '../context.js';
import { beginNode, requestOf } from './node-request.js';
import { Requests, type RequestOptions } from './request.js';

export type { RequestOptions } from './request.js';

/** What the plugin needs of Fastify's instance. */
interface Instance {
  addHook(name: any, hook: any): unknown;
}

/** The plugin. Its options are a middleware's.
 *
 * @throws TypeError for an option of a wrong type or name
 */
export function fastifyPlugin(app: Instance, options: RequestOptions, done: (error?: Error) => void): void {
  // Those that Fastify itself reads.
  const requests = new Requests(options, ['prefix', 'logLevel', 'logSerializers']);
  app.addHook('onRequest', (about: any, reply: any, next: () => void) => {
    const request = beginNode(requests, about.raw, reply.raw, () => routeOf(about));
    if (request === undefined) return next();
    request.route(routeOf(about));
    within(request.context, next);
  });
  app.addHook('onError', (about: any, _reply: any, thrown: unknown, next: () => void) => {
    requestOf(about.raw)?.fail(thrown);
    next();
  });
  done();
}

/** The pattern of the route; none where there is no such route. */
function routeOf(about: any): unknown {
  return about.is404 === true ? undefined : (about.routeOptions?.url ?? about.routerPath);
}

// What `fastify-plugin` says of a plugin: that it is for the application that registers it, not for a part of its own.
Object.assign(fastifyPlugin, {
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: 'tracebaton',
  [Symbol.for('plugin-meta')]: { name: 'tracebaton', fastify: '>=4' },
});
