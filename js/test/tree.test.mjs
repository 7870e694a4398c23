// Trees of values: what a program gives to be captured comes out as it should, and costs only so much.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { createServer as createSecureServer } from 'node:http2';
import { createRequire } from 'node:module';
import { PassThrough, Writable } from 'node:stream';
import { test } from 'node:test';

const require = createRequire(import.meta.url);
const { TreeReader, AMPLE } = require('../dist/cjs/tree.js');
const { bytesOf } = require('../dist/cjs/bytes.js');
const { captured } = require('../dist/cjs/exchange.js');
const { parametersOf, argumentsByName } = require('../dist/cjs/parameters.js');

const through = (value, caps = AMPLE) => new TreeReader(bytesOf(captured(value, caps))).value();

test('basic values come back as they were', () => {
  for (const value of [
    null,
    true,
    false,
    0,
    -1,
    127,
    2 ** 31,
    -(2 ** 31) - 1,
    2 ** 53 - 1,
    -(2 ** 53) + 1,
    2 ** 53,
    0.5,
    -0,
    Infinity,
    NaN,
    '',
    'a',
    'é',
    'ä'.repeat(100),
    '😀',
    'x'.repeat(100_000),
    [],
    {},
    [1, [2, ['3']]],
    { a: { b: [null] } },
  ]) {
    assert.deepEqual(through(value), value);
  }
  assert.ok(Object.is(through(-0), -0));
  assert.equal(through('a\ud800b'), 'a\ufffdb');
});

test('other values in a form that says what they hold', () => {
  class Point {
    constructor() {
      this.x = 1;
    }
    get y() {
      throw new Error('no field');
    }
  }
  class Empty {}
  const circular = { list: [] };
  circular.list.push(circular);
  for (const [value, expected] of [
    [undefined, null],
    [123n, 123],
    [2n ** 64n, '18446744073709551616'],
    [Symbol('s'), 'Symbol(s)'],
    [function named() {}, '[function named]'],
    [new Date(0), '1970-01-01T00:00:00.000Z'],
    [new Date(NaN), 'Invalid Date'],
    [
      new Map([
        ['a', 1],
        [2, 'b'],
      ]),
      { a: 1, 2: 'b' },
    ],
    [new Set(['a', 'b']), ['a', 'b']],
    [Object.assign(new RangeError('far'), { code: 5 }), { name: 'RangeError', message: 'far', code: 5 }],
    [
      new Error('a', { cause: new Error('b') }),
      { name: 'Error', message: 'a', cause: { name: 'Error', message: 'b' } },
    ],
    [new Float64Array([1.5, 2]), [1.5, 2]],
    [new URL('http://a/b?c'), 'http://a/b?c'],
    [/x/g, '/x/g'],
    [Object(5), 5],
    [new Headers({ a: 'b' }), { a: 'b' }],
    [new Point(), { x: 1 }],
    [new Empty(), '[Empty]'],
    [Promise.resolve(1), '[Promise]'],
    [circular, { list: ['[circular]'] }],
    [{ toJSON: () => ({ json: 1 }) }, { json: 1 }],
    [{ a: undefined, b: 1 }, { b: 1 }],
    [
      {
        get a() {
          throw new Error('x');
        },
        b: 1,
      },
      { a: '[unreadable]', b: 1 },
    ],
    [
      [1, , 3],
      [1, null, 3],
    ],
    [JSON.parse('{"__proto__": {"a": 1}}'), JSON.parse('{"__proto__": {"a": 1}}')],
  ]) {
    assert.deepEqual(through(value), expected);
  }
  assert.deepEqual([...through(Buffer.from('ab'))], [97, 98]);
  assert.equal({}.a, undefined);
});

test('objects that are connections, or lead to one, in a form that holds no secret twice', async () => {
  const seen = [];
  const server = http.createServer((request, response) => {
    seen.push(request, response, request.socket);
    // As Express has it where a router is mounted.
    if (request.url === '/mounted?q=1') Object.assign(request, { originalUrl: request.url, url: '/' });
    response.setHeader('set-cookie', 'id=hidden');
    response.end('body');
  });
  const http2 = createSecureServer((request, response) => {
    seen.push(request, response, request.stream);
    response.end();
  });
  try {
    for (const one of [server, http2]) await once(one.listen(0, '127.0.0.1'), 'listening');
    const agent = new http.Agent({ keepAlive: true });
    const { port } = server.address();
    const asked = http.get({ port, agent, path: '/mounted?q=1', headers: { authorization: 'Bearer hidden', 'x-a': '1' } });
    const [response] = await once(asked, 'response');
    for await (const _ of response);
    const headers = { host: `localhost:${port}`, authorization: 'Bearer hidden', 'x-a': '1', connection: 'keep-alive' };
    const [incoming, outgoing, socket] = seen.splice(0);
    assert.deepEqual(through(incoming), { method: 'GET', url: '/mounted?q=1', headers });
    assert.deepEqual(through({ request: Object.create(incoming) }).request, through(incoming));
    assert.deepEqual(Object.keys(through(response)), ['status', 'headers']);
    assert.equal(through(response).status, 200);
    assert.deepEqual(through([outgoing, asked, socket, agent, server, process.stdout]), [
      '[ServerResponse]',
      '[ClientRequest]',
      '[Socket]',
      '[Agent]',
      '[Server]',
      `[${process.stdout.constructor.name}]`,
    ]);
    assert.deepEqual(through([new PassThrough(), new Writable()]), ['[PassThrough]', '[Writable]']);
    agent.destroy();
    const session = (await import('node:http2')).connect(`http://127.0.0.1:${http2.address().port}`);
    const stream = session.request({ ':path': '/two', 'x-a': '1' });
    await once(stream, 'response');
    const [incoming2, outgoing2, stream2] = seen;
    const { method, url, headers: headers2, ...others } = through(incoming2);
    assert.deepEqual([method, url, headers2['x-a'], others], ['GET', '/two', '1', {}]);
    assert.equal(through(outgoing2), '[Http2ServerResponse]');
    assert.match(through(stream2), /^\[\w+\]$/);
    session.destroy();
  } finally {
    server.closeAllConnections();
    server.close();
    http2.close();
  }
});

test('objects of a program that are called like those keep their fields', async () => {
  class Agent extends (await import('node:events')).EventEmitter {
    constructor() {
      super();
      this.model = 'm';
    }
  }
  assert.equal(through(new Agent()).model, 'm');
});

test('what is endless is cut', () => {
  const caps = { depth: 4, nodes: 50, size: 1000 };
  assert.ok(through('x'.repeat(10_000), caps).length <= 1000);
  assert.ok(through(new Array(1_000_000).fill(1), caps).length <= 50);
  assert.ok(
    JSON.stringify(
      through(
        Array.from({ length: 100 }, () => 'y'.repeat(500)),
        caps,
      ),
    ).length < 2_000,
  );
  let deep = 'end';
  for (let level = 0; level < 1000; level++) deep = { deep };
  assert.match(JSON.stringify(through(deep, caps)), /too deep/);
  const endless = { toJSON: () => ({ toJSON: endless.toJSON }) };
  assert.equal(typeof through(endless), 'string');
  const sparse = [];
  sparse[4_000_000_000] = 1;
  assert.ok(through(sparse, caps).length <= 50);
});

test('values that capture values themselves', () => {
  const nested = { toJSON: () => ({ inner: through({ a: [1, 2, 3] }), after: 'x' }) };
  assert.deepEqual(through({ before: 1, nested, after: [2] }), {
    before: 1,
    nested: { inner: { a: [1, 2, 3] }, after: 'x' },
    after: [2],
  });
});

test('parameters by name', () => {
  class Service {
    method(a, { b, c }, ...rest) {
      return [a, b, c, rest];
    }
    async *[`x(`](q) {
      yield q;
    }
  }
  const names = (fn) =>
    parametersOf(fn)
      .map(({ name, isObject }) => (isObject ? '{}' : (name ?? '?')))
      .join();
  assert.equal(
    names((a, b = ')', /* , */ c = [1, 2]) => [a, b, c]),
    'a,b,c',
  );
  assert.equal(
    names((x) => x),
    'x',
  );
  assert.equal(
    names(async (x) => x),
    'x',
  );
  assert.equal(names(Service.prototype.method), 'a,{},rest');
  assert.equal(names(Service.prototype['x(']), '');
  assert.equal(names(Math.max), '');
  assert.equal(
    names(() => 1),
    '',
  );
  assert.deepEqual(
    { ...argumentsByName(parametersOf(Service.prototype.method), [1, { b: 2, c: 3 }, 4, 5]) },
    { a: 1, b: 2, c: 3, rest: [4, 5] },
  );
  assert.deepEqual({ ...argumentsByName([], ['x', 'y']) }, { 0: 'x', 1: 'y' });
});
