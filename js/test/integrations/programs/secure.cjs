// Asks itself over TLS, by `https.get` and `https.request`.
const { readFileSync } = require('fs');
const https = require('https');
const { get, request } = https;

const [key, cert] = ['key', 'cert'].map((name) => readFileSync(`${process.argv[2]}/${name}.pem`));
const server = https.createServer({ key, cert }, (incoming, response) => response.end(incoming.headers.traceparent));
server.listen(0, '127.0.0.1', async () => {
  const options = { host: '127.0.0.1', port: server.address().port, ca: cert, servername: 'localhost', agent: false };
  for (const ask of [get, (...all) => request(...all).end()]) {
    await new Promise((resolve) => ask(options, (response) => response.on('data', (data) => console.log(String(data))).on('end', resolve)));
  }
  server.close();
});
