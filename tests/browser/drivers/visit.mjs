// What the drivers share: a Chromium that reaches the server alone, and a record of what happened in it.
// Each driver takes its options as JSON in its first argument, and prints what it has found as JSON.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

import { signIn } from "./sign_in.mjs";

const { chromium } = createRequire(new URL("../../../explorer/package.json", import.meta.url))("playwright-core");

const OFFLINE = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
];
// High enough for the editors to draw all of their lines.
const VIEWPORT = { width: 1400, height: 2400 };
// How long a page that is done stays as it is, and how long one that never does is waited for.
const STILL_MS = 150;
const LONGEST_MS = 5_000;
const underWay = new Set();
// A job may wait for processors that other tests have.
const PATIENCE_MS = 120_000;

/** Tell the test how far the driver is. */
export function tell(stage) {
  console.log(JSON.stringify({ stage }));
}

/** Wait for what the test hands over. */
export async function handed() {
  const lines = createInterface({ input: process.stdin });
  for await (const line of lines) {
    lines.close();
    process.stdin.pause();
    return JSON.parse(line);
  }
}

/** Wait until nothing is asked of the server any more, and what was answered is drawn. */
export async function settled(page) {
  do {
    await page.evaluate(
      ([still, longest]) =>
        new Promise((resolve) => {
          const end = () => {
            observer.disconnect();
            resolve();
          };
          let timer = setTimeout(end, still);
          const observer = new MutationObserver(() => {
            clearTimeout(timer);
            timer = setTimeout(end, still);
          });
          observer.observe(document, { attributes: true, characterData: true, childList: true, subtree: true });
          setTimeout(end, longest); // A clock on the page goes on for ever.
        }),
      [STILL_MS, LONGEST_MS],
    );
  } while (underWay.size > 0);
}

/** Open a page of the server, by default /graphql, sign in where there is a token, drive the page, and print what the driver returns with requests and errors. */
export async function visit(drive) {
  const { executablePath, screenshots, path = "/graphql", viewport = VIEWPORT, ...options } = JSON.parse(process.argv[2]);
  const { origin } = new URL(options.url);
  const browser = await chromium.launch({ executablePath, args: OFFLINE });
  try {
    const context = await browser.newContext({ viewport });
    context.setDefaultTimeout(PATIENCE_MS);
    await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin });
    const requests = [];
    const errors = [];
    await context.route(
      (address) => address.origin !== origin,
      (route) => route.abort(),
    );
    context.on("request", (request) => {
      requests.push(request.url());
      underWay.add(request);
    });
    for (const ended of ["requestfinished", "requestfailed"]) context.on(ended, (request) => underWay.delete(request));
    context.on("weberror", (error) => errors.push(String(error.error())));
    context.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    const page = await context.newPage();
    page.on("websocket", (socket) => requests.push(socket.url()));
    const shoot = (name) => screenshots && page.screenshot({ path: `${screenshots}/${name}.png` });

    const response = await page.goto(options.url + path);
    const driven = { page, response, shoot, screenshots, ...options };
    const told = options.token && (await signIn(driven));
    const found = await drive(driven);
    console.log(JSON.stringify({ ...found, told, requests, errors }));
  } finally {
    await browser.close();
  }
}
