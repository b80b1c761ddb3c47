// Serves the compiled route handlers of examples/nextjs as Next.js does: a Request in, a Response out. Not Next.js itself.
const http = require("node:http");
const path = require("node:path");

const folder = process.argv[2];

const server = http.createServer(async (incoming, outgoing) => {
  const chunks = [];
  for await (const chunk of incoming) chunks.push(chunk);
  const { pathname } = new URL(incoming.url, "http://here");
  let route;
  try {
    route = require(path.join(folder, "app", pathname, "route.js"));
  } catch {
    outgoing.writeHead(404).end();
    return;
  }
  const hasBody = !["GET", "HEAD"].includes(incoming.method);
  const request = new Request(`http://here${incoming.url}`, {
    method: incoming.method,
    headers: incoming.headers,
    body: hasBody ? Buffer.concat(chunks) : undefined,
  });
  const answer = await route[incoming.method](request, { params: Promise.resolve({}) });
  outgoing.writeHead(answer.status, Object.fromEntries(answer.headers));
  outgoing.end(Buffer.from(await answer.arrayBuffer()));
});

server.listen(0, "127.0.0.1", () => console.log(server.address().port));
