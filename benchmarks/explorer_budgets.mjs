// Drives the explorer in Chromium, and prints what it took as JSON: `node explorer_budgets.mjs OPTIONS`.
import { createRequire } from "node:module";

const { chromium } = createRequire(new URL("../explorer/package.json", import.meta.url))("playwright-core");
const { url, executablePath, saes, neurons, rounds, points, play } = JSON.parse(process.argv[2]);
const VIEWPORT = { width: 1280, height: 900 };
const SETTLE_MS = 1_000;
const WAIT_MS = 10_000;

const browser = await chromium.launch({ executablePath, args: ["--headless", "--no-sandbox", "--disable-gpu"] });

// When the first row of a table, and when a page under its heading, has come into the document.
function watch() {
  window.seen = {};
  const look = () => {
    if (document.querySelector("main table tbody tr")) window.seen.rows ??= performance.now();
    window.seen.last = performance.now();
  };
  new MutationObserver(look).observe(document, { childList: true, subtree: true });
}

// Lets the page's socket tell of what has not happened: points of trainings, and the progress of a job.
function intercept() {
  window.subscriptions = {};
  window.WebSocket = class extends WebSocket {
    send(message) {
      const { type, id, payload } = JSON.parse(message);
      if (type === "subscribe") window.subscriptions[/\{\s*(\w+)/.exec(payload.query)[1]] = { socket: this, id };
      super.send(message);
    }
  };
  const tell = (field, value) => {
    const { socket, id } = window.subscriptions[field];
    const data = JSON.stringify({ id, type: "next", payload: { data: { [field]: value } } });
    socket.onmessage(new MessageEvent("message", { data }));
  };
  const pointAt = (step) => {
    const noise = Math.sin(step * 12.9898) / 50;
    return {
      step,
      tokenCount: step * 1024,
      loss: 5 / Math.sqrt(step) + noise,
      explainedVariance: 0.9 - 1 / step + noise,
      l0: 32 + noise,
      deadFraction: Math.abs(noise),
      mse: 1,
      learningRate: 1e-3,
      tokensPerSecond: 1e4,
    };
  };
  window.sendPoints = (saes, from, to) => {
    for (let step = from; step <= to; step += 1)
      for (const saeId of saes)
        tell("trainingPoints", { saeId, sequence: step, truncatedAfterStep: null, point: pointAt(step) });
  };
  window.sendProgress = (count) => {
    for (let completed = 1; completed <= count; completed += 1)
      tell("jobs", {
        id: "job_made_up",
        kind: "TRAIN_SAE",
        title: "made up",
        status: "RUNNING",
        stage: null,
        error: null,
        attempt: 1,
        willResume: false,
        createdAt: "2026-01-01T00:00:00Z",
        startedAt: "2026-01-01T00:00:00Z",
        finishedAt: null,
        queuePosition: null,
        result: null,
        progress: {
          completed,
          total: count,
          unit: "STEPS",
          fraction: completed / count,
          ratePerSecond: 2,
          etaSeconds: (count - completed) / 2,
          stage: null,
        },
      });
  };
}

async function fresh() {
  const context = await browser.newContext({ viewport: VIEWPORT });
  const page = await context.newPage();
  await page.addInitScript(watch);
  return page;
}

// A browser that has never been here, on the first page.
async function cold() {
  const page = await fresh();
  await page.goto(url);
  await page.locator("main table tbody tr").first().waitFor();
  const found = await page.evaluate(() => ({
    paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    rows: window.seen.rows,
    bytes: performance
      .getEntriesByType("resource")
      .filter(({ name }) => name.includes("/static/"))
      .reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0),
  }));
  await page.context().close();
  return found;
}

// From a click in the navigation to the other page's content, in the page's own time.
async function navigations(page) {
  const times = [];
  for (let round = -1; round < rounds; round += 1) {
    for (const [label, heading] of [
      ["Jobs", "Jobs"],
      ["Home", "Home"],
    ]) {
      const time = await page.evaluate(
        async ([label, heading]) => {
          const links = [...document.querySelectorAll("header nav a")];
          const began = performance.now();
          links.find(({ textContent }) => textContent === label).click();
          const isThere = () =>
            document.querySelector("h1")?.textContent === heading &&
            !document.querySelector("main").textContent.includes("Loading…");
          while (!isThere()) await new Promise(requestAnimationFrame);
          return performance.now() - began;
        },
        [label, heading],
      );
      if (round >= 0) times.push(time); // The first one fetches the page's script.
      await page.waitForTimeout(100);
    }
  }
  return times;
}

// From letting go of the scrollbar to the rows that are there, and the frames of a long scroll.
async function places(page) {
  await page.goto(`${url}/saes/${saes[0]}`);
  const list = page.locator(`[role=list]:has([aria-setsize="${neurons}"])`);
  if (!(await list.waitFor({ timeout: WAIT_MS }).then(() => true, () => false))) return null;
  await page.waitForTimeout(SETTLE_MS);
  return list.evaluate(
    async (scroller, rounds) => {
      const frame = () => new Promise(requestAnimationFrame);
      let mostRows = 0;
      const seenRows = () => {
        const items = [...scroller.querySelectorAll("[role=listitem]")];
        mostRows = Math.max(mostRows, items.length);
        const { top, bottom } = scroller.getBoundingClientRect();
        return items.filter((item) => {
          const box = item.getBoundingClientRect();
          return box.bottom > top && box.top < bottom;
        });
      };
      const isLoaded = () => {
        const rows = seenRows();
        return rows.length > 0 && rows.every((row) => row.querySelector('a[href*="/neurons/"]'));
      };
      const times = [];
      for (let round = 0; round < rounds; round += 1) {
        // No two in one stretch of pages.
        scroller.scrollTop = scroller.scrollHeight * (((round * 0.618) % 1) * 0.98 + 0.01);
        const began = performance.now();
        do await frame();
        while (!isLoaded());
        times.push(performance.now() - began);
        await new Promise((resolve) => setTimeout(resolve, 300));
      }
      const frames = [];
      let last = await frame();
      for (let step = 0; step < 120; step += 1) {
        scroller.scrollTop = (scroller.scrollHeight * step) / 120;
        const now = await frame();
        frames.push(now - last);
        last = now;
        seenRows();
      }
      return { times, frames, mostRows };
    },
    rounds,
  );
}

// The frames of the map of neurons while it is dragged, and while the wheel zooms it.
async function map(page) {
  await page.goto(`${url}/saes/${saes[0]}`);
  const canvas = page.getByRole("application", { name: /^Map of / });
  if (!(await canvas.waitFor({ timeout: WAIT_MS }).then(() => true, () => false))) return null;
  await canvas.scrollIntoViewIfNeeded();
  await page.waitForTimeout(SETTLE_MS);
  const { x, y, width, height } = await canvas.boundingBox();
  const [middleX, middleY] = [x + width / 2, y + height / 2];
  const framesOf = async (act) => {
    await page.evaluate(() => {
      window.frames_ = [];
      let last = performance.now();
      const step = (now) => {
        window.frames_.push(now - last);
        last = now;
        window.next_ = requestAnimationFrame(step);
      };
      window.next_ = requestAnimationFrame(step);
    });
    await act();
    return page.evaluate(() => {
      cancelAnimationFrame(window.next_);
      return window.frames_.slice(1);
    });
  };
  await page.mouse.move(middleX, middleY);
  await page.mouse.down();
  const drag = await framesOf(async () => {
    for (const by of [200, -200, 150, 0]) await page.mouse.move(middleX + by, middleY + by / 4, { steps: 30 });
  });
  await page.mouse.up();
  await canvas.focus();
  const zoom = await framesOf(async () => {
    for (let turn = 0; turn < 60; turn += 1) await page.mouse.wheel(0, turn < 30 ? -30 : 30);
  });
  return { drag, zoom };
}

// From pressing Generate to the first token of each text that is drawn, in the page's own time.
async function playing() {
  if (!play) return null;
  const page = await fresh();
  await page.goto(play);
  const found = [];
  // The first one loads the model.
  for (let round = -1; round < rounds; round += 1) {
    // Another prompt each time, whose baseline is not there yet.
    await page.getByLabel("Text that the model goes on from").fill(`Number ${round + 1} of the stories is about`);
    await page.getByRole("button", { name: "Generate", exact: true, disabled: false }).waitFor();
    const times = await page.evaluate(async () => {
      const isGenerate = ({ textContent }) => textContent === "Generate";
      // Earlier runs are in a card of their own.
      const card = [...document.querySelectorAll("section")].find(
        (section) => section.querySelector("h2")?.textContent === "Generated text",
      );
      const tokenOf = (title) => card.querySelector(`[role=listbox][aria-label^="${title} text"] [role=option]`);
      const titles = ["Baseline", "Steered"];
      const earlier = titles.map(tokenOf);
      const began = performance.now();
      [...document.querySelectorAll("button")].find(isGenerate).click();
      const first = {};
      while (titles.some((title) => !(title in first))) {
        await new Promise(requestAnimationFrame);
        for (const [place, title] of titles.entries()) {
          const token = tokenOf(title);
          if (token && token !== earlier[place]) first[title] ??= performance.now() - began;
        }
      }
      return first;
    });
    await page.getByText(/^Done\./).first().waitFor({ timeout: 120_000 });
    if (round >= 0) found.push(times);
  }
  await page.context().close();
  return found;
}

// What is asked for the neuron: how many queries, their time and size; those of its neighbors come ahead of time.
async function neuronPage(page) {
  const found = [];
  for (let round = 0; round < rounds; round += 1) {
    const index = Math.floor((neurons * round) / rounds);
    const answers = [];
    const keep = (response) => {
      const request = response.request();
      const isAsked = response.url().endsWith("/graphql") && request.method() === "POST";
      if (isAsked && request.postDataJSON().variables?.index === index) answers.push(response);
    };
    page.on("response", keep);
    await page.goto(`${url}/saes/${saes[0]}/neurons/${index}`);
    const isThere = await page
      .locator("main h1")
      .waitFor({ timeout: WAIT_MS })
      .then(() => true, () => false);
    await page.waitForTimeout(SETTLE_MS);
    page.off("response", keep);
    if (!isThere || answers.length === 0) return null;
    let [bytes, milliseconds] = [0, 0];
    for (const answer of answers) {
      bytes += (await answer.request().sizes()).responseBodySize;
      const { requestStart, responseEnd } = answer.request().timing();
      milliseconds = Math.max(milliseconds, responseEnd - requestStart);
    }
    found.push({ queries: answers.length, bytes, milliseconds });
  }
  return found;
}

// Points of five trainings that come over the page's own socket: how long each update keeps the page busy.
async function curves() {
  const page = await fresh();
  await page.addInitScript(intercept);
  const search = saes.map((id) => `sae=${id}`).join("&");
  await page.goto(`${url}/compare?${search}`);
  const isSubscribed = () => "trainingPoints" in window.subscriptions && "jobs" in window.subscriptions;
  if (!(await page.waitForFunction(isSubscribed, null, { timeout: WAIT_MS }).then(() => true, () => false))) return null;
  const session = await page.context().newCDPSession(page);
  // Processor time of the page's main thread: what else runs on the machine does not count.
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const metrics = async () => {
    const { metrics: all } = await session.send("Performance.getMetrics");
    return Object.fromEntries(all.map(({ name, value }) => [name, value]));
  };
  const send = (from, to) => page.evaluate(([saes, from, to]) => window.sendPoints(saes, from, to), [saes, from, to]);
  await send(1, points);
  await page.waitForFunction(
    (text) => document.querySelector("main table tbody td:nth-child(2)")?.textContent === text,
    points.toLocaleString("en-US"),
    { timeout: 60_000 },
  );
  await page.waitForTimeout(SETTLE_MS);
  const updates = [];
  for (let round = 1; round <= rounds * 4; round += 1) {
    const before = await metrics();
    await send(points + round, points + round);
    await page.waitForTimeout(150);
    const after = await metrics();
    updates.push(1000 * (after.TaskDuration - before.TaskDuration));
  }
  // What the same span takes without an update: pings, timers, the measurement itself.
  const idle = [];
  for (let round = 0; round < rounds * 4; round += 1) {
    const before = await metrics();
    await page.waitForTimeout(150);
    idle.push(1000 * ((await metrics()).TaskDuration - before.TaskDuration));
  }
  // An hour's progress of a job, twice a second.
  await page.evaluate((count) => window.sendProgress(count), 7200);
  await page.waitForTimeout(3 * SETTLE_MS);
  await session.send("HeapProfiler.collectGarbage");
  const heap = (await metrics()).JSHeapUsedSize;
  await page.context().close();
  return { updates, idle, heap };
}

const first = [];
for (let round = 0; round < rounds; round += 1) first.push(await cold());
const page = await fresh();
await page.goto(url);
await page.locator("main table tbody tr").first().waitFor();
const found = {
  first,
  navigations: await navigations(page),
  places: await places(page),
  map: await map(page),
  neuron: await neuronPage(page),
  curves: await curves(),
  playing: await playing(),
};
await browser.close();
console.log(JSON.stringify(found));
