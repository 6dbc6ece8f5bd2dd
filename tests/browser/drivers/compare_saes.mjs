// Compares SAEs: finds one, hides a line, smooths, zooms, reads values, evaluates, and loads the address again.
import { settled, visit } from "./visit.mjs";

const PATIENCE = { timeout: 60_000 };

await visit(async ({ page, shoot, url, ids, names, search }) => {
  await page.getByRole("searchbox", { name: "Find an SAE" }).fill(search);
  await page.getByRole("list", { name: "SAEs to add" }).getByRole("button", { name: names[0] }).click();
  await page.getByRole("searchbox", { name: "Find an SAE" }).fill("");
  await page.getByRole("list", { name: "SAEs to add" }).getByRole("button", { name: names[1] }).click();
  await page.getByRole("button", { name: "Done" }).click();
  const chosen = new URL(page.url()).searchParams.getAll("sae");

  const table = page.getByRole("table", { name: /Last values|Values at the cursor/ });
  const loss = page.getByRole("slider", { name: "Loss" });
  await loss.locator("canvas").waitFor(PATIENCE);
  // The curve that was chosen second may come later.
  await table.locator("tbody td:nth-child(2)", { hasText: /\d/ }).nth(1).waitFor(PATIENCE);
  const description = await page.locator(`#${(await loss.getAttribute("aria-describedby")).replaceAll(":", "\\:")}`).textContent();
  const steps = () => table.locator("tbody td:nth-child(2)").allInnerTexts();
  const last = await steps();
  await loss.focus();
  await page.keyboard.press("Home");
  const first = await steps();
  await page.keyboard.press("ArrowRight");
  const second = await steps();
  await loss.hover({ position: { x: 200, y: 60 } });
  const hovered = await steps();
  await page.mouse.move(0, 0);

  await page.getByRole("button", { name: `Show ${names[1]} in the charts` }).click();
  await page.getByLabel("Along").selectOption("tokens");
  await page.getByLabel("Log y, where above 0").check();
  await page.getByLabel("Learning rate").check();
  await page.getByLabel(/^Smoothing/).fill("0.5");
  const canvas = await loss.locator(".u-over").boundingBox();
  await page.mouse.move(canvas.x + 50, canvas.y + 20);
  await page.mouse.down();
  await page.mouse.move(canvas.x + canvas.width / 2, canvas.y + 40, { steps: 4 });
  await page.mouse.up();
  await page.getByRole("button", { name: "Show all" }).waitFor();
  await page.getByLabel("Only differences").check();
  await settled(page);
  const differences = await page.getByRole("table", { name: "Configurations" }).locator("tbody td:first-child").allInnerTexts();
  await shoot("compare_zoomed");

  const address = page.url();
  await page.goto(address);
  await loss.locator("canvas").waitFor(PATIENCE);
  await settled(page);
  const again = {
    isHidden: await page.getByRole("button", { name: `Show ${names[1]} in the charts` }).getAttribute("aria-pressed"),
    along: await page.getByLabel("Along").inputValue(),
    isLog: await page.getByLabel("Log y, where above 0").isChecked(),
    smoothing: await page.getByLabel(/^Smoothing/).inputValue(),
    charts: await page.locator("figure figcaption").allInnerTexts(),
    zoomed: [Number(await loss.getAttribute("aria-valuemin")), Number(await loss.getAttribute("aria-valuemax"))],
  };
  await page.getByRole("button", { name: "Show all" }).click();
  const all = [Number(await loss.getAttribute("aria-valuemin")), Number(await loss.getAttribute("aria-valuemax"))];

  await page.getByRole("button", { name: "Evaluate…" }).click();
  await page.getByLabel("How many").fill("20");
  await page.getByLabel("Leave out at the start").fill("100");
  await page.getByRole("button", { name: "Evaluate all 2" }).click();
  const launched = page.getByRole("list", { name: "Evaluations that were launched" });
  await launched.getByText("Succeeded").nth(1).waitFor(PATIENCE);
  const figures = page.getByRole("table", { name: "Evaluations" });
  await figures.getByRole("row", { name: /^Tokens measured on [\d,]+ [\d,]+/ }).waitFor(PATIENCE);
  await settled(page);
  const measuredOn = await page.getByLabel("Measured on").inputValue();
  const rows = await figures.getByRole("row").allInnerTexts();
  await shoot("compare_evaluated");

  await page.goto(`${url}/server`);
  await page.getByRole("table", { name: "Workers" }).waitFor();
  await settled(page);
  const server = await page.locator("main").innerText();
  return { chosen, description, last, first, second, hovered, differences, again, all, measuredOn, rows, server, address };
});
