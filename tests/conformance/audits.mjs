// Runs the graphql-http package's audits of a server, and prints as JSON what each came to.
// Usage: node audits.mjs URL
import { serverAudits } from "graphql-http";

const [url] = process.argv.slice(2);
const results = [];
for (const audit of serverAudits({ url })) {
  const { status, reason, response } = await audit.fn();
  const answer = response && {
    status: response.status,
    contentType: response.headers.get("content-type"),
    body: await textOf(response),
  };
  results.push({ id: audit.id, name: audit.name, status, reason, answer });
}
console.log(JSON.stringify(results));

async function textOf(response) {
  try {
    return await response.clone().text();
  } catch {
    return "(read already)";
  }
}
