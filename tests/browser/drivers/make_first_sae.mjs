// Makes a first SAE from an empty server by keyboard alone, with reloads in between, names a neuron and steers with it.
import { findings } from "./accessibility.mjs";
import { ended, shownTexts } from "./playing.mjs";
import { settled, visit } from "./visit.mjs";

const NARROW = { width: 360, height: 740 };
const MAX_TABS = 120;

await visit(async ({ page, shoot, url, sizes, name, prompt }) => {
  const grave = [];
  const wide = page.viewportSize();

  // Tab leads there sooner or later, or the page cannot be used without a mouse.
  async function tabTo(role, name) {
    const target = page.locator("main").getByRole(role, { name, exact: true });
    await target.first().waitFor();
    for (let tabs = 0; tabs < MAX_TABS; tabs++) {
      if (await target.evaluateAll((all) => all.includes(document.activeElement))) return;
      await page.keyboard.press("Tab");
    }
    throw new Error(`${role} ${name} cannot be reached by Tab`);
  }

  async function press(role, name) {
    await page.getByRole(role, { name, exact: true, disabled: false }).first().waitFor();
    await page.waitForFunction(() => !document.querySelector("main button.primary:disabled"));
    await tabTo(role, name);
    await page.keyboard.press("Enter");
  }

  async function look(name) {
    await shoot(`start_${name}`);
    grave.push(...(await findings(page)));
    await page.emulateMedia({ colorScheme: "dark" });
    await page.setViewportSize(NARROW);
    grave.push(...(await findings(page)));
    await shoot(`start_${name}_narrow_dark`);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (overflow > 0) grave.push({ id: "overflow", name, overflow });
    await page.emulateMedia({ colorScheme: "light" });
    await page.setViewportSize(wide);
  }

  const heading = (name) => page.getByRole("heading", { level: 2, name }).waitFor();

  await page.getByRole("link", { name: "Make a first SAE" }).waitFor();
  await press("link", "Make a first SAE");
  await heading("Which language model?");
  await look("model");
  await press("button", "Use this model");
  await heading(/^Which layer of /);
  await tabTo("radio", sizes.recommended);
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowUp");
  await look("layer");
  await press("button", "Use this layer");
  await heading("Which texts?");
  await page.getByRole("list", { name: "First texts" }).waitFor();
  await look("texts");
  await press("button", "Use these texts");
  await heading("How large?");
  for (const [name, value] of Object.entries(sizes.fields)) {
    await tabTo("spinbutton", name);
    await page.keyboard.press("Control+A");
    await page.keyboard.type(String(value));
  }
  await look("training");
  const planned = await page.locator("main").innerText();
  await press("button", "Make the SAE");
  await page.waitForURL(/capture=job_/);
  await page.reload();
  await page.getByText("Capture activations").first().waitFor();
  await page.waitForURL(/train=job_/);
  await look("progress");
  await page.reload();
  await heading("Your SAE is ready");
  await page.getByRole("link", { name: /^Neuron \d/ }).first().waitFor();
  await settled(page);
  await look("ready");
  const text = await page.locator("main").innerText();
  const address = page.url();
  await tabTo("link", "Look at your neurons");
  const next = await page.evaluate(() => document.activeElement.getAttribute("href"));

  await page.keyboard.press("Enter");
  await page.waitForURL(url + next);
  const neurons = page.getByRole("listitem").getByRole("link", { name: /^#\d+$/ });
  await neurons.first().waitFor();
  await tabTo("link", /^#\d+$/);
  const neuron = await page.evaluate(() => document.activeElement.textContent);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: neuron, exact: true }).waitFor();
  await tabTo("textbox", "Name");
  await page.keyboard.type(name);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: `${neuron} ${name}` }).waitFor();
  await tabTo("link", "Steer from here");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: /^Playground/ }).waitFor();
  await tabTo("textbox", /^Text that the model goes on from/);
  await page.keyboard.type(prompt);
  await tabTo("slider", `Bias of ${neuron}`);
  await page.keyboard.press("End");
  await press("button", "Generate");
  await ended(page);
  const edited = await page.getByRole("list", { name: "Edited neurons" }).innerText();
  await shoot("start_steered");
  return { planned, text, address, next, grave, url, neuron, edited, steered: page.url(), texts: await shownTexts(page) };
});
