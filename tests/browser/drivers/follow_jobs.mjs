// Follows a job that is launched meanwhile, first by the stream of all jobs, then by its own.
import { chooseTab, fillIn, finished, loaded, result, run, stop, tabNames } from "./graphiql.mjs";
import { visit } from "./visit.mjs";

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
  const names = await tabNames(page);
  await chooseTab(page, names.indexOf("Jobs"));
  await run(page);
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

  await chooseTab(page, names.indexOf("JobProgress"));
  await fillIn(page, { jobId: job.id });
  await run(page);
  const story = await result(page, '"SUCCEEDED"');
  await finished(page);
  await shoot("job_followed");
  return { job, shown, streamed, story, replayed: frames };
});
