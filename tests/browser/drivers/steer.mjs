// Steers in the playground: reads the map of neurons, runs, follows the run's link in another page, stops.
import { ended, recordGenerations, shownTexts, textOf } from "./playing.mjs";
import { settled, visit } from "./visit.mjs";

await visit(async ({ page, shoot, url, paths, long }) => {
  const runs = [];
  for (const path of paths) {
    // The address is the same but for its query: the page is another one all the same.
    const first = await page.context().newPage();
    const events = recordGenerations(first);
    await first.goto(url + path);
    await first.getByRole("gridcell").first().waitFor();
    await first.getByRole("button", { name: /^Show all/ }).click();
    await settled(first);
    const cells = await first
      .getByRole("gridcell")
      .evaluateAll((cells) => cells.map((cell) => cell.getAttribute("aria-label")));
    await first.getByRole("button", { name: "Generate" }).click();
    await ended(first);
    const texts = await shownTexts(first);
    await first.getByRole("button", { name: "Copy link" }).click();
    const link = await first.evaluate(() => navigator.clipboard.readText());
    await first.close();

    const second = await page.context().newPage();
    const again = recordGenerations(second);
    await second.goto(link);
    await ended(second);
    runs.push({ cells, texts, link, events, again: { texts: await shownTexts(second), events: again } });
    await second.close();
  }

  await page.goto(url + long);
  await page.getByRole("button", { name: "Generate" }).click();
  await textOf(page, "Steered").getByRole("option").first().waitFor();
  await page.getByRole("button", { name: "Stop", exact: true }).click();
  await page.getByText(/^Stopped\./).waitFor();
  const count = () => page.getByRole("listbox", { name: "Steered text" }).getByRole("option").count();
  const stopped = [await count()];
  await page.waitForTimeout(300);
  stopped.push(await count());

  await page.getByLabel("Temperature").fill("-1");
  await page.getByRole("button", { name: "Generate" }).click();
  await page.getByRole("alert").waitFor();
  const field = page.getByLabel("Temperature");
  const refused = {
    invalid: await field.getAttribute("aria-invalid"),
    told: await page.getByRole("alert").innerText(),
  };
  await shoot("play_refused");
  await settled(page);
  const earlier = await page.getByText(/^Run \d/).allInnerTexts();
  return { runs, stopped, refused, earlier };
});
