// Ends itself as soon as it has its answer.
const response = await fetch(process.argv[2]);
await response.text();
process.exit(7);
