// Presses the run button of the first tab.
import { ask, loaded, result } from "./graphiql.mjs";
import { visit } from "./visit.mjs";

await visit(async ({ page, shoot }) => {
  await loaded(page);
  await shoot("loaded");
  const answer = await ask(page);
  await shoot("answered");
  return { ...answer, shown: await result(page, '"data"') };
});
