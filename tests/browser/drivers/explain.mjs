// Asks why a token follows a prompt, turns off a neuron of the answer, and saves, loads and deletes the edit.
import { settled, visit } from "./visit.mjs";

await visit(async ({ page, shoot, name }) => {
  const hide = page.getByLabel("Hide neurons that fire on more than 1% of tokens");
  await hide.check();
  const hidden = await page.getByText(/that fire most are hidden/).innerText();
  await page.getByLabel("Strongest by").selectOption("Share of its own maximum");
  await page.waitForURL(/dense=no&rank=relative/);
  await hide.uncheck();
  await page.getByLabel("Rather than").fill(" the");
  await page.getByRole("button", { name: "Explain" }).click();
  const table = page.getByRole("table", { name: "Neurons by their effect" });
  await table.waitFor();
  await settled(page);
  const rows = await table
    .locator("tbody tr")
    .evaluateAll((rows) => rows.map((row) => [...row.cells].slice(0, 3).map((cell) => cell.innerText)));
  await table.getByRole("button", { name: /^Turn / }).first().click();
  const edited = page.getByRole("list", { name: "Edited neurons" }).getByRole("listitem");
  await edited.first().waitFor();
  await page.waitForURL(/edits=/);
  const address = page.url();
  await page.getByLabel("Save these edits as").fill(name);
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await page.getByText(`Saved as ${name}.`).waitFor();
  await page.getByRole("button", { name: /^Remove the edit/ }).click();
  await edited.first().waitFor({ state: "detached" });
  const saved = page.getByLabel("Saved edits");
  await saved.selectOption({ label: "Choose…" });
  await saved.selectOption({ label: name });
  await edited.first().waitFor();
  await settled(page);
  await shoot("play_explained");
  const loaded = await edited.allInnerTexts();
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  const asked = page.getByRole("dialog", { name: `Delete ${name}?` });
  await shoot("play_delete");
  await asked.getByRole("button", { name: "Delete" }).click();
  await page.getByText(`Deleted ${name}.`).waitFor();
  await saved.waitFor({ state: "detached" });
  await settled(page);
  return { hidden, rows, address, loaded, kept: await edited.allInnerTexts() };
});
