// Reads the documentation: all types, Query's fields, a type's fields, and what a search finds.
import { loaded } from "./graphiql.mjs";
import { visit } from "./visit.mjs";

await visit(async ({ page, shoot }) => {
  const docs = page.getByRole("region", { name: "Documentation Explorer" });

  // A page of the documentation is there with its heading.
  async function read(heading) {
    await docs.getByText(heading, { exact: true }).and(docs.locator(".graphiql-doc-explorer-title")).waitFor();
    await shoot(`docs_${heading}`);
    return docs.innerText();
  }

  async function follow(name) {
    await docs.getByRole("link", { name, exact: true }).first().click();
    return read(name);
  }

  await loaded(page);
  await page.getByRole("button", { name: "Show Documentation Explorer" }).click();
  await docs.getByRole("link", { name: "Query", exact: true }).waitFor();
  await read("Docs");
  const types = await docs.locator(".graphiql-doc-explorer-type-name").allTextContents();
  const query = await follow("Query");
  const sae = await follow("Sae");
  await docs.getByRole("combobox").fill("topTexts");
  const hit = docs.getByRole("option").filter({ hasText: "Neuron.topTexts" }).first();
  await hit.waitFor();
  await shoot("docs_search");
  await hit.click();
  return { types, query, sae, found: await read("topTexts") };
});
