// Goes through the playground by keyboard alone, from an empty page to an edit that an explanation has led to.
import { ended, textOf } from "./playing.mjs";
import { settled, visit } from "./visit.mjs";

const MOST_STOPS = 150;

await visit(async ({ page, url, saeId, play }) => {
  const { keyboard } = page;
  const focused = () =>
    page.evaluate(() => {
      const element = document.activeElement;
      const name = element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent ?? element.textContent;
      return `${element.getAttribute("role") ?? element.localName} ${name}`;
    });
  async function tabTo(pattern, key = "Tab") {
    for (let stop = 0; stop < MOST_STOPS; stop++) {
      await keyboard.press(key);
      if (pattern.test(await focused())) return;
    }
    throw new Error(`The Tab key does not lead to ${pattern}; the focus is on ${await focused()}`);
  }

  await page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor();
  await page.goto(url + play);
  await page.getByText("Write a prompt first.").waitFor();
  await tabTo(/^textarea Text/);
  await keyboard.type("for a list of strings");
  await tabTo(/^button Find its neurons/);
  await keyboard.press("Enter");
  await page.getByRole("gridcell").first().waitFor();
  await settled(page);
  await tabTo(/^gridcell/);
  await keyboard.press("ArrowDown");
  await keyboard.press("ArrowRight");
  await keyboard.press("ArrowRight");
  const cell = await focused();
  await keyboard.press("Enter");
  await page.getByRole("heading", { name: /^On token 3/ }).waitFor();
  await settled(page);
  await tabTo(/^button Edit #/);
  const edit = await focused();
  await keyboard.press("Enter");
  await tabTo(/^input Bias of #/);
  const bias = () => page.getByLabel(/^Bias of #\d+$/).first().inputValue();
  const before = await bias();
  await keyboard.press("ArrowRight");
  const after = await bias();
  await tabTo(/^button Generate/);
  await keyboard.press("Enter");
  await ended(page);
  await tabTo(/^listbox Steered/);
  await keyboard.press("ArrowRight");
  await keyboard.press("Enter");
  await tabTo(/^button Why this token/);
  await keyboard.press("Enter");
  await page.getByRole("table", { name: "Neurons by their effect" }).waitFor();
  await settled(page);
  const chosen = await textOf(page, "Steered").locator("[aria-selected=true]").count();
  await tabTo(/^button Turn #/);
  const turned = await focused();
  await keyboard.press("Enter");
  await page.waitForURL((address) => address.search.includes("%3A0%3A0"));

  await keyboard.press("Control+k");
  await page.getByRole("combobox", { name: "Search" }).waitFor();
  await keyboard.type("contrast");
  const offered = await page.getByRole("group", { name: "Here" }).getByRole("option").first().innerText();
  await keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: /^Contrast/ }).waitFor();
  await keyboard.press("Control+k");
  await page.getByRole("combobox", { name: "Search" }).waitFor();
  const recent = await page.getByRole("group", { name: "Recent" }).getByRole("option").allInnerTexts();
  await keyboard.type("#7");
  await settled(page);
  await keyboard.press("Enter");
  await page.waitForURL(`${url}/saes/${saeId}/neurons/7`);
  return { cell, edit, before, after, chosen, turned, offered, recent };
});
