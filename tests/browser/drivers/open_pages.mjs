// Opens pages of the explorer one after the other, in both color schemes and on a narrow screen.
import { findings } from "./accessibility.mjs";
import { settled, visit } from "./visit.mjs";

const NARROW = { width: 360, height: 740 };

await visit(async ({ page, shoot, url, paths, until = {} }) => {
  const pages = {};
  const wide = page.viewportSize();
  for (const path of paths) {
    await page.goto(url + path);
    await page.getByRole("heading", { level: 1 }).waitFor();
    await page.locator("main", { hasText: "Loading…" }).waitFor({ state: "detached" });
    await settled(page);
    if (until[path]) await page.getByText(until[path]).first().waitFor();
    const name = path.replaceAll(/\W+/g, "_");
    const found = { title: await page.title(), text: await page.locator("main").innerText() };
    found.bytes = await page.evaluate(() =>
      performance
        .getEntriesByType("resource")
        .filter((entry) => entry.name.includes("/static/"))
        .reduce((sum, entry) => sum + entry.encodedBodySize, 0),
    );
    await shoot(`explorer${name}`);
    found.findings = await findings(page);
    await page.emulateMedia({ colorScheme: "dark" });
    await shoot(`explorer${name}_dark`);
    found.findings.push(...(await findings(page)));
    await page.setViewportSize(NARROW);
    found.overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    await shoot(`explorer${name}_narrow`);
    await page.setViewportSize(wide);
    await page.emulateMedia({ colorScheme: "light" });
    pages[path] = found;
  }
  return { pages };
});
