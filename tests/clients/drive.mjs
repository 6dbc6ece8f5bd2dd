// Uses a client of docs/clients.md as an application would, and prints as JSON what came of it.
// Usage: node drive.mjs TASK MODULE ARGUMENTS
import { pathToFileURL } from "node:url";

const [task, module, given] = process.argv.slice(2);
const api = await import(pathToFileURL(module));
const { job, after, saeId, capture, csv, jsonl } = JSON.parse(given);

async function eventsOf(id, after) {
  const events = [];
  await api.follow(id, (event) => events.push(event), after);
  return events;
}

async function failureOf(promise) {
  try {
    return { value: await promise };
  } catch (error) {
    return { code: api.codeOf?.(error), refusal: error.refusal, message: String(error.message) };
  }
}

const tasks = {
  async use() {
    const launched = await api.capture(capture);
    const events = await eventsOf(launched.id);
    const file = new File([jsonl], "texts.jsonl");
    const dataset = { upload: { file, textField: "body" } };
    const fromFile = await api.capture({ ...capture, dataset });
    await eventsOf(fromFile.id);
    return {
      overview: await api.overview(1),
      pages: await api.twoPages?.(1),
      launched,
      events,
      fromFile: fromFile.id,
      refused: await failureOf(api.capture({ ...capture, batchSize: -1 })),
      imported: await api.importConcepts(saeId, new File([csv], "concepts.csv")),
      tooLarge: await failureOf(api.importConcepts(saeId, new File([csv, " ".repeat(200_000)], "concepts.csv"))),
    };
  },
  follow: () => eventsOf(job, after),
  async fail() {
    return { query: api.overview && (await failureOf(api.overview(1))), subscription: await failureOf(eventsOf(job, 0)) };
  },
};

console.log(JSON.stringify(await tasks[task]()));
process.exit(); // A client may keep its connection open.
