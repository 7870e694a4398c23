// Knows nothing of tracing: asks a server by `fetch`, and prints what it says.
const response = await fetch(`${process.argv[2]}/start?token=hidden`);
process.stdout.write(await response.text());
