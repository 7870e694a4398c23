/**
 * Tracing without a line of code:
 *
 *     node --import tracebaton/register app.mjs
 *
 * A tracer is made from the environment, its provider becomes OpenTelemetry's global one unless there is one, and servers,
 * clients and `fetch` are instrumented. A program that calls `Tracer.init` itself goes on with its own tracer. With
 * `HH_DISABLE_HTTP_TRACING` there are no spans for requests; trace and session are carried along all the same.
 */

import { Tracer } from '../index.js';
import { api } from '../api.js';
import { registered } from '../context.js';
import { report } from '../core.js';
import { yieldToNext } from '../registry.js';
import { instrument } from './instrument.js';

try {
  const otel = api();
  const tracer = Tracer.init({ setGlobal: otel !== undefined && registered('trace') === undefined });
  if (tracer.core.enabled) {
    const global = registered('trace');
    yieldToNext((successor) => {
      // Whoever asks for a tracer from now on gets one of the program's own. There is only one global provider ever.
      if (global?.getDelegate?.() === tracer.provider) global.setDelegate(successor.provider);
    });
    instrument({ spans: !/^(1|true|yes|on)$/i.test(process.env['HH_DISABLE_HTTP_TRACING'] ?? '') });
  }
} catch (thrown) {
  // Such as for a platform without a native part: the program is to run. What we say ourselves holds no secrets.
  const { message } = thrown as Error;
  report(`the program is not traced${/^tracebaton: /.test(message) ? ` (${message.slice(12)})` : ''}`);
}
