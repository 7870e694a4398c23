// Says which rejections of traced functions the process reports as handled by nobody.
import { Tracer, trace } from '../../dist/esm/index.mjs';

const tracer = Tracer.init({ exporter: 'memory' });
const settle = async () => {
  for (let n = 0; n < 3; n++) await new Promise((resolve) => setImmediate(resolve));
};
const reported = {};
const during = async (name, run) => {
  const reasons = (reported[name] = []);
  const listener = (reason) => reasons.push(reason.message);
  process.on('unhandledRejection', listener);
  await run();
  await settle();
  process.off('unhandledRejection', listener);
};

const later = (text) => trace({ tracer }, () => settle().then(() => Promise.reject(new Error(text))))();
const ignore = () => {};
const handlers = {
  await: async (promise) => {
    try {
      await promise;
    } catch {
      ignore();
    }
  },
  then: (promise) => promise.then(ignore, ignore),
  catch: (promise) => promise.catch(ignore),
  all: (promise) => Promise.all([promise]).catch(ignore),
  returned: (promise) => (async () => promise)().catch(ignore),
};
for (const [name, handle] of Object.entries(handlers)) await during(name, () => handle(later('handled')));
await during('nobody', async () => {
  void later('nobody');
  await settle();
});
await during('async', async () => {
  void trace({ tracer }, async () => Promise.reject(new Error('async')))();
  await settle();
});
const failed = tracer.recorded().filter(({ status }) => status.code === 2).length;
process.send({ reported, failed });
