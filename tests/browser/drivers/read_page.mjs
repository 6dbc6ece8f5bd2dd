// Reads a page of plain text, and presses its button if it has one.
import { visit } from "./visit.mjs";

await visit(async ({ page, response, shoot, name }) => {
  const found = { status: response.status(), text: await page.locator("body").innerText() };
  await shoot(name);
  const button = page.getByRole("button");
  if (await button.count()) {
    await button.click();
    await page.waitForLoadState();
    await shoot(`${name}_pressed`);
  }
  return { ...found, address: page.url() };
});
