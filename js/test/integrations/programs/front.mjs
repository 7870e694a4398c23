// Knows nothing of tracing: ECMAScript modules, named imports, a server that asks another one by `http.get`.
import { createServer, get } from 'node:http';

const server = createServer((request, response) => {
  get(`${process.env.BACK}/items?key=hidden`, (answer) => {
    response.writeHead(answer.statusCode, { 'content-type': 'text/plain' });
    answer.pipe(response);
  });
});
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
