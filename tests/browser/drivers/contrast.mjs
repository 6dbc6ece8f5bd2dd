// Contrasts two sets of texts, looks where a neuron fires, and goes to it and to the playground.
import { settled, visit } from "./visit.mjs";

await visit(async ({ page, shoot, texts, long }) => {
  const tables = async () => {
    const found = {};
    for (const set of ["A", "B"]) {
      const card = page.getByRole("region", { name: `More on ${set}` });
      const more = card.getByRole("button", { name: /^Show all/ });
      if (await more.isVisible()) await more.click();
      found[set] = await card
        .locator("tbody tr")
        .evaluateAll((rows) => rows.map((row) => [...row.cells].slice(1, 5).map((cell) => cell.innerText)));
    }
    return found;
  };
  await page.getByLabel("Texts A").fill(texts.a.join("\n"));
  await page.getByLabel("Texts B").fill(texts.b.join("\n"));
  await page.getByRole("button", { name: "Contrast", exact: true }).click();
  const where = page.getByRole("button", { name: /^Where #/ });
  await where.first().waitFor();
  await settled(page);
  const shown = await tables();
  await where.first().click();
  const set = (name) => page.getByRole("region", { name: `Texts of ${name}` }).locator("p");
  await set("A").first().waitFor();
  await settled(page);
  const titled = (paragraphs) =>
    paragraphs.evaluateAll((all) => all.map((one) => [...one.children].map(({ title }) => title)));
  const fires = { a: await titled(set("A")), b: await titled(set("B")) };
  await shoot("contrasted");
  const linked = page.url();
  await page.reload();
  await set("A").first().waitFor();

  await page.getByRole("checkbox", { name: /^Steer by/ }).first().check();
  const steering = await page.getByRole("link", { name: "Steer toward A" }).getAttribute("href");
  const neuron = page.getByRole("region", { name: "More on A" }).getByRole("link").first();
  const name = await neuron.innerText();
  await neuron.click();
  await page.waitForURL(/neurons/);
  const address = page.url();

  await page.goBack();
  await page.getByLabel("Texts A").fill(long);
  await page.getByRole("button", { name: "Contrast", exact: true }).click();
  await page.getByText("too long for a link").waitFor();
  await where.first().waitFor();
  const kept = page.url();
  const elsewhere = await page.context().newPage();
  await elsewhere.goto(kept);
  const lost = await elsewhere.getByRole("alert").innerText();
  return { shown, fires, linked, steering, name, address, kept, lost };
});
