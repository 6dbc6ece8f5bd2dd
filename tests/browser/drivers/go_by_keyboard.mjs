// Goes through the explorer by keyboard alone: the skip link, the navigation, the command menu.
import { visit } from "./visit.mjs";

// The heading of a page takes the focus once it is drawn.
const focusedHeading = (page) => page.locator("h1:focus").innerText();
const focused = (page) => page.evaluate(() => document.activeElement?.textContent);

await visit(async ({ page, shoot, job }) => {
  await page.getByRole("heading", { level: 1, name: "Home" }).waitFor();
  await page.keyboard.press("Tab");
  const skip = await focused(page);
  await page.keyboard.press("Control+k");
  await page.getByRole("combobox", { name: "Search" }).waitFor();
  await page.keyboard.type("jobs");
  await shoot("explorer_menu");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor();
  const heading = await focusedHeading(page);
  await page.keyboard.press("Control+k");
  await page.getByRole("combobox", { name: "Search" }).waitFor();
  await page.keyboard.type(job.id);
  await page.getByRole("option").filter({ hasText: job.title }).first().waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1 }).filter({ hasText: job.title }).waitFor();
  await page.goBack();
  await page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor();
  return { skip, heading, address: page.url() };
});
