// Knows nothing of tracing: CommonJS, a server that streams its answer after asking a third one by `fetch`.
const http = require('http');

const server = http.createServer(async (request, response) => {
  response.write('headers: ' + JSON.stringify(request.headers) + '\n');
  if (process.env.LEAF) response.write(await (await fetch(`${process.env.LEAF}/leaf`)).text());
  response.end('done\n');
});
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
