// Reads a failed job's page, and tries the job again.
import { settled, visit } from "./visit.mjs";

await visit(async ({ page, shoot }) => {
  const retry = page.getByRole("button", { name: "Retry" });
  await retry.waitFor();
  await settled(page);
  const shown = await page.locator("main").innerText();
  const lines = await page.locator("[data-sequence] span").allInnerTexts();
  await shoot("job_failed");
  await retry.click();
  const refusal = page.getByRole("alert").filter({ hasText: "Try again in" });
  await refusal.waitFor();
  await shoot("queue_full");
  return { shown, lines, refused: await refusal.innerText() };
});
