// Follows a job that is launched meanwhile, first by the stream of all jobs, then by its own.
import { chooseTab, fillIn, finished, loaded, result, run, stop } from "./graphiql.mjs";
import { visit } from "./visit.mjs";

const JOBS = 2;

await visit(async ({ page, shoot, url, token, modelDirectory }) => {
  const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };

  // Another client of the API.
  async function ask(query, variables) {
    const body = JSON.stringify({ query, variables });
    const answer = await fetch(`${url}/graphql`, { method: "POST", headers, body });
    return Object.values((await answer.json()).data)[0];
  }

  await loaded(page);
  const { languageModel } = await ask(
    `mutation($path: String!) {
      addLanguageModel(input: { name: "tiny", source: { path: $path } }) {
        ... on LanguageModelAdded { languageModel { id } }
      }
    }`,
    { path: modelDirectory },
  );

  const frames = [];
  const subscribed = new Promise((resolve) =>
    page.on("websocket", (socket) => {
      socket.on("framereceived", ({ payload }) => frames.push(JSON.parse(payload)));
      socket.on("framesent", ({ payload }) => {
        frames.push(JSON.parse(payload));
        if (frames.at(-1).type === "subscribe") resolve();
      });
    }),
  );
  await chooseTab(page, JOBS);
  await run(page, "Jobs");
  await subscribed;
  await shoot("jobs_waiting");
  const { job } = await ask(
    `mutation($id: ID!) { loadLanguageModel(id: $id) { ... on JobLaunched { job { id } } } }`,
    { id: languageModel.id },
  );
  const shown = await result(page, '"SUCCEEDED"');
  await shoot("jobs_followed");
  await stop(page);
  await finished(page);
  const streamed = frames.splice(0);

  await fillIn(page, { id: job.id });
  await run(page, "JobProgress");
  const story = await result(page, '"SUCCEEDED"');
  await finished(page);
  await shoot("job_followed");
  return { job, shown, streamed, story, replayed: frames };
});
