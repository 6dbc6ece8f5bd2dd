// What the drivers of the playground share.
import { settled } from "./visit.mjs";

/** Record the events of generations that a page is sent. */
export function recordGenerations(page) {
  const events = [];
  page.on("websocket", (socket) =>
    socket.on("framereceived", ({ payload }) => {
      const { type, payload: sent } = JSON.parse(payload);
      const event = type === "next" && sent.data?.generation;
      if (event) events.push(event);
    }),
  );
  return events;
}

export const textOf = (page, variant) => page.getByRole("listbox", { name: `${variant} text` });

/** Return what is shown of the newest run: each variant's text. */
export async function shownTexts(page) {
  return { baseline: await textOf(page, "Baseline").innerText(), steered: await textOf(page, "Steered").innerText() };
}

/** Wait for the end of a run, with all of its text drawn. */
export async function ended(page) {
  await page.getByText(/^Done\./).waitFor();
  await settled(page);
}
