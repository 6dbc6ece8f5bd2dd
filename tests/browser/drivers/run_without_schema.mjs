// Presses the run button, and opens the documentation, where the server does not tell its schema.
import { ask, loaded } from "./graphiql.mjs";
import { settled, visit } from "./visit.mjs";

await visit(async ({ page, shoot }) => {
  await loaded(page);
  const answer = await ask(page);
  await page.getByRole("button", { name: "Show Documentation Explorer" }).click();
  await settled(page);
  const docs = await page.getByRole("region", { name: "Documentation Explorer" }).innerText();
  await shoot("without_schema");
  return { ...answer, docs };
});
