// What axe finds on a page, as far as it keeps people from using it.
import { readFile } from "node:fs/promises";

const SOURCE = new URL("../../../explorer/node_modules/axe-core/axe.min.js", import.meta.url);
const GRAVE = ["serious", "critical"];

/** Return the serious and critical findings, each with its rule and the elements. */
export async function findings(page) {
  await page.evaluate(await readFile(SOURCE, "utf8"));
  const { violations } = await page.evaluate(() => window.axe.run());
  return violations
    .filter(({ impact }) => GRAVE.includes(impact))
    .map(({ id, help, nodes }) => ({ id, help, elements: nodes.map(({ html }) => html) }));
}
