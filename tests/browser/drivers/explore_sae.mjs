// Goes from an SAE's list of neurons to one of them, names it, tests it, and finds it among the names.
import { settled, visit } from "./visit.mjs";

const heading = (page) => page.getByRole("heading", { level: 1 });
const drawn = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));

await visit(async ({ page, shoot, url, sae, scrollTo, prompt, name }) => {
  const rows = page.getByRole("list", { name: "Neurons" });
  const listed = (count) => page.getByText(`${count} listed`, { exact: true }).waitFor();

  await page.goto(`${url}${sae}?order=FREQUENCY_DESC`);
  await rows.getByRole("link").first().waitFor();
  await rows.evaluate((list, index) => {
    list.scrollTop = index * list.querySelector("[role=listitem]").clientHeight;
  }, scrollTo);
  const item = rows.locator(`[aria-posinset="${scrollTo + 1}"]`);
  await item.getByRole("link").waitFor();
  const scrolled = { index: await item.getByRole("link").innerText(), rows: await rows.getByRole("listitem").count() };
  await page.waitForURL(/row=/);
  await page.reload();
  await item.getByRole("link").waitFor();

  await page.getByRole("searchbox", { name: "Words" }).fill("numbers lis");
  await page.getByLabel("Search in").selectOption("Names");
  await listed(1);
  await settled(page);
  const found = { address: page.url(), text: await rows.innerText() };
  await page.getByRole("button", { name: "Show all" }).click();
  await page.getByLabel("Fires").selectOption("Yes");
  await settled(page);
  await rows.getByRole("link").first().click();

  const next = page.getByRole("link", { name: "Next" });
  await next.waitFor();
  const first = await heading(page).innerText();
  await page.keyboard.press("j");
  await heading(page).filter({ hasNotText: first }).waitFor();
  await settled(page); // Its neighbors come after it.
  const second = { heading: await heading(page).innerText(), address: page.url() };
  await page.keyboard.press("k");
  await heading(page).filter({ hasText: first }).waitFor();

  await page.getByRole("textbox", { name: "Text" }).fill(prompt);
  await page.getByText(/^Highest|^It does not fire/).waitFor();
  await settled(page);
  const tested = { steer: await page.getByRole("link", { name: "Steer from here" }).getAttribute("href") };
  tested.text = await page.getByRole("region", { name: "Test it with your own text" }).innerText();
  await shoot("explorer_neuron_tested");

  const related = page.getByRole("region", { name: "Related neurons" }).getByRole("tabpanel");
  const opener = related.getByRole("button", { name: "Strongest text of" }).first();
  await opener.press("Enter");
  await related.locator("mark").first().waitFor();
  await settled(page);
  tested.related = { row: await related.getByRole("listitem").first().innerText(), isOpen: await opener.getAttribute("aria-expanded") };
  await opener.press("Enter");
  const texts = page.getByRole("region", { name: "Texts", exact: true });
  await texts.getByRole("button", { name: "Take to the test box" }).nth(1).click();
  const box = page.getByRole("textbox", { name: "Text" });
  await page.waitForURL((address) => address.searchParams.get("text") !== prompt);
  await page.getByText(/^Highest/).waitFor();
  await settled(page);
  const taken = { text: await box.inputValue(), hasFocus: await box.evaluate((field) => field === document.activeElement) };
  taken.shown = await texts.getByRole("tabpanel").innerText();
  tested.taken = taken;
  await texts.getByRole("button", { name: "Show up to 12" }).click();
  await texts.getByRole("button", { name: "Show fewer" }).waitFor();
  await settled(page);
  tested.texts = await texts.getByRole("listbox").count();
  const firings = page.getByRole("region", { name: "When it fires" });
  await texts.getByRole("listbox").first().focus();
  await page.keyboard.press("Home");
  for (let presses = 0; presses < 64 && (await firings.locator("line").count()) === 0; presses++) {
    await page.keyboard.press("ArrowRight");
    await drawn(page);
  }
  await settled(page);
  tested.pointed = await firings.getByRole("status").innerText();
  await texts.locator("mark").first().hover();
  await firings.locator("line").waitFor({ state: "attached" });
  await page.getByRole("textbox", { name: "Name" }).hover();
  await firings.locator("line").waitFor({ state: "detached" });

  await page.getByRole("textbox", { name: "Name" }).fill(name);
  await page.getByRole("button", { name: "Save" }).click();
  await heading(page).filter({ hasText: name }).waitFor();
  await page.getByRole("textbox", { name: "Name" }).fill(`${name}, perhaps`);
  await page.getByRole("button", { name: "Save" }).click();
  await heading(page).filter({ hasText: "perhaps" }).waitFor();
  await page.getByRole("button", { name: `Undo: “${name}”` }).click();
  await heading(page).filter({ hasNotText: "perhaps" }).waitFor();
  const named = await heading(page).innerText();

  await page.getByText("Next →").focus();
  await page.keyboard.press("r");
  await page.waitForURL((address) => !address.pathname.endsWith(`/${first.slice(1)}`));
  await page.goto(`${url}${sae}`);
  await page.getByText("What it takes to make the same again").click();
  const provenance = page.getByRole("button", { name: "Copy as JSON" });
  await provenance.click();
  await page.getByRole("button", { name: "Copied" }).waitFor();
  const copied = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
  await page.getByRole("button", { name: "Random neuron" }).click();
  await next.waitFor();
  const random = (await heading(page).innerText()).split(" ")[0];

  await page.goto(`${url}${sae}/concepts`);
  await page.getByRole("button", { name: "Import" }).click();
  const paste = page.getByLabel("Or paste it");
  await paste.fill("neuron_idx,concept_name,score\n7,seven,0.5\n99999,nobody,");
  const refused = { preview: await page.getByRole("alert").innerText() };
  await page.locator("form").getByRole("button", { name: "Import" }).click();
  await page.getByText("This cannot be done as given").waitFor();
  refused.server = await page.getByRole("alert").last().innerText();
  await paste.fill("neuron_idx,concept_name,score\n7,seven,0.5");
  await page.locator("form").getByRole("button", { name: "Import" }).click();
  await page.getByText("1 names are in").waitFor();
  await listed(3);
  await settled(page);
  const names = await page.getByRole("list", { name: "Names" }).innerText();
  const saved = page.waitForEvent("download");
  await page.getByRole("button", { name: "Export CSV" }).click();
  const file = await (await saved).createReadStream();
  const chunks = [];
  for await (const chunk of file) chunks.push(chunk);
  return { copied, random, scrolled, found, first, second, tested, named, refused, names, exported: Buffer.concat(chunks).toString() };
});
