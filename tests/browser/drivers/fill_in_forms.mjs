// Uploads texts, captures, trains: the forms with what is right, and with what the server refuses.
import { settled, visit } from "./visit.mjs";

await visit(async ({ page, shoot, url, texts, run, dataset }) => {
  const main = page.locator("main");
  const enabled = (name) => page.getByRole("button", { name, exact: true, disabled: false });

  await page.goto(`${url}/datasets`);
  const file = { name: "animals.csv", mimeType: "text/csv", buffer: Buffer.from(`kind,body\n${texts.map((text) => `a,${text}`).join("\n")}\n`) };
  await page.getByLabel("File", { exact: true }).setInputFiles(file);
  await page.getByRole("list", { name: "First texts" }).waitFor();
  await settled(page);
  const column = await page.getByLabel("Column with the texts").inputValue();
  await page.getByLabel("Name", { exact: true }).fill(dataset);
  await shoot("datasets_upload");
  await enabled("Store it").click();
  const refused = await page.locator("[aria-invalid=true]").getAttribute("aria-describedby");
  const taken = await page.locator(`#${escaped(refused.split(" ").at(-1))}`).innerText();
  await page.getByLabel("Name", { exact: true }).fill("animals");
  await enabled("Store it").click();
  await page.getByRole("region", { name: "Texts of animals" }).getByText(texts[0]).first().waitFor();
  await settled(page);
  const stored = await main.innerText();

  await page.getByRole("button", { name: "Rename animals" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("beasts");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Texts of beasts" }).waitFor();

  await page.getByRole("link", { name: "Capture activations on it" }).click();
  await page.getByRole("list", { name: "First texts" }).waitFor();
  await page.getByText("on disk").waitFor();
  await settled(page);
  const estimated = await page.locator("p", { hasText: "on disk" }).innerText();
  await page.getByLabel("Tokens of a text").fill("100000");
  await enabled("Capture").click();
  const wrong = page.getByLabel("Tokens of a text");
  await page.locator("input[aria-invalid=true]").waitFor();
  const limit = await describedBy(page, wrong);
  await shoot("capture_refused");
  await wrong.fill("64");
  await enabled("Capture").click();
  await page.waitForURL(/\/jobs\/job_/);
  await page.getByText("Succeeded").first().waitFor();

  await page.goto(`${url}/train?run=${run}`);
  await page.getByLabel("Neurons", { exact: true }).fill("32, 48");
  await page.getByLabel("k", { exact: true }).fill("64");
  await page.locator("input[aria-invalid=true]").first().waitFor();
  const tooMany = await describedBy(page, page.getByLabel("k", { exact: true }));
  await shoot("train_refused");
  await page.getByLabel("k", { exact: true }).fill("4");
  await page.locator("table tbody tr").nth(1).waitFor();
  await settled(page);
  const costs = await page.locator("table tbody tr").allInnerTexts();
  await shoot("train_sweep");
  await enabled("Train 2 SAEs").click();
  await page.waitForURL(/\/compare\?/);
  return { column, taken, stored, estimated, limit, tooMany, costs, compared: new URL(page.url()).searchParams.getAll("sae") };
});

async function describedBy(page, field) {
  const ids = await field.getAttribute("aria-describedby");
  const texts = await Promise.all(ids.split(" ").map((id) => page.locator(`#${escaped(id)}`).innerText()));
  return texts.join(" ");
}

// IDs of React may have characters that a selector takes for its own.
function escaped(id) {
  return id.replaceAll(/[^\w-]/g, (character) => `\\${character}`);
}
