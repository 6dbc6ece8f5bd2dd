// Takes pictures of the explorer's pages in Chromium: `node screenshots.mjs OPTIONS`; see screenshots.py.
import { createRequire } from "node:module";

const { chromium } = createRequire(new URL("../explorer/package.json", import.meta.url))("playwright-core");
const { url, executablePath, views, schemes, directory } = JSON.parse(process.argv[2]);
const WIDTH = 1280;
const WAIT_MS = 180_000; // The first one to need the language model waits until it is loaded.
const SETTLE_MS = 1_500;

const browser = await chromium.launch({ executablePath, args: ["--headless", "--no-sandbox", "--disable-gpu"] });
try {
  // Side by side: most of it is waiting.
  const take = async (colorScheme) => {
    const context = await browser.newContext({ colorScheme, reducedMotion: "reduce" });
    context.setDefaultTimeout(WAIT_MS);
    for (const view of views) {
      const page = await context.newPage();
      await page.setViewportSize({ width: WIDTH, height: view.height });
      await page.goto(url + view.path);
      await page.locator(view.until).first().waitFor();
      if (view.click) await page.locator(view.click).click();
      if (view.then) await page.locator(view.then).first().waitFor();
      // Charts and what comes below load in their own time; the pointer and the focus are not to be seen.
      await page.mouse.move(0, 0);
      await page.evaluate(() => document.activeElement?.blur());
      await page.waitForTimeout(SETTLE_MS);
      const path = `${directory}/${view.name}-${colorScheme}.png`;
      await (view.part ? page.locator(view.part) : page).screenshot({ path });
      await page.close();
    }
    await context.close();
  };
  await Promise.all(schemes.map(take));
} finally {
  await browser.close();
}
