// Follows a training in two tabs while its server goes away and comes back, and saves the curves that they show.
import { readFile } from "node:fs/promises";
import { handed, settled, tell, visit } from "./visit.mjs";

const STEPS_TO_SEE = 100;
const FURTHER_STEPS = 100;
const PATIENCE = { timeout: 120_000 };

// All messages of a tab's sockets, in their order.
function recorded(tab) {
  const frames = [];
  tab.on("websocket", (socket) => {
    socket.on("framesent", ({ payload }) => frames.push({ sent: true, ...JSON.parse(payload) }));
    socket.on("framereceived", ({ payload }) => frames.push({ sent: false, ...JSON.parse(payload) }));
  });
  return frames;
}

// Wait until the table beside the curves shows a step at or after this one; returns the step.
async function shown(tab, step) {
  const handle = await tab.waitForFunction(
    (least) => {
      const tables = [...document.querySelectorAll("table")];
      const table = tables.find(({ caption }) => caption?.textContent === "Last values");
      const text = table?.querySelector("tbody td:nth-child(2)")?.textContent ?? "";
      const last = Number(text.replaceAll(",", ""));
      return last >= least && last;
    },
    step,
    PATIENCE,
  );
  return handle.jsonValue();
}

async function saved(tab) {
  const [download] = await Promise.all([
    tab.waitForEvent("download"),
    tab.getByRole("button", { name: "Save as CSV" }).click(),
  ]);
  return readFile(await download.path(), "utf8");
}

await visit(async ({ page, url, job, shoot, screenshots }) => {
  const tabs = await Promise.all([page.context().newPage(), page.context().newPage()]);
  const each = (act) => Promise.all(tabs.map(act));
  const frames = tabs.map(recorded);
  await each((tab) => tab.goto(`${url}/jobs/${job}`));
  await each((tab) => shown(tab, STEPS_TO_SEE));
  await tabs[1].reload();
  await shown(tabs[1], STEPS_TO_SEE);
  tell("following");

  const notice = (tab) => tab.getByRole("status").filter({ hasText: "Reconnecting…" });
  await each((tab) => notice(tab).waitFor(PATIENCE));
  await shoot("training_away");
  tell("away");
  await each((tab) => notice(tab).waitFor({ state: "hidden", ...PATIENCE }));
  await each((tab) => tab.getByText("Interrupted", { exact: true }).waitFor(PATIENCE));
  const interrupted = await shown(tabs[0], STEPS_TO_SEE);
  await tabs[0].getByRole("button", { name: "Retry" }).click();
  await each((tab) => shown(tab, FURTHER_STEPS + interrupted));
  await tabs[1].getByRole("button", { name: "Cancel" }).click();
  await each((tab) => tab.getByText("Canceled", { exact: true }).waitFor(PATIENCE));
  tell("canceled");

  const { lastStep } = await handed();
  await each((tab) => shown(tab, lastStep));
  await each(settled);
  const curves = [await saved(tabs[0]), await saved(tabs[1])];
  const logs = await each((tab) =>
    tab.locator("[data-sequence]").evaluateAll((lines) => lines.map((line) => Number(line.dataset.sequence))),
  );
  if (screenshots) await tabs[0].screenshot({ path: `${screenshots}/training_retried.png`, fullPage: true });
  return { frames, curves, logs };
});
