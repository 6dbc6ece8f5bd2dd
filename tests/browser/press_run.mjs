// Opens GraphiQL in a real browser, presses the run button, and prints as JSON what happened.
// Usage: node press_run.mjs URL CHROMIUM [SCREENSHOT]
import { createRequire } from "node:module";

const [url, executablePath, screenshot] = process.argv.slice(2);
const require = createRequire(new URL("../../frontend/package.json", import.meta.url));
const { chromium } = require("playwright-core");

const browser = await chromium.launch({
  executablePath,
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
try {
  const page = await browser.newPage({ viewport: { width: 1400, height: 2400 } });
  const requests = [];
  const errors = [];
  page.on("request", (request) => requests.push(request.url()));
  page.on("websocket", (socket) => requests.push(socket.url()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));

  await page.goto(url);
  // The editor has checked the query against the schema once its introspection has come and the tabs are drawn.
  await page.locator(".graphiql-query-editor .view-line").first().waitFor();
  const answered = page.waitForResponse(
    (response) => response.request().method() === "POST" && !response.request().postData().includes("__schema"),
  );
  await page.locator(".graphiql-execute-button").click();
  const response = await answered;
  await page.locator(".result-window .view-line", { hasText: '"data"' }).waitFor();
  if (screenshot) {
    await page.waitForTimeout(1500);
    await page.screenshot({ path: screenshot });
  }
  console.log(
    JSON.stringify({
      tabs: await page.locator('.graphiql-tab-button, [role="tab"]').allTextContents(),
      sent: response.request().postDataJSON(),
      status: response.status(),
      received: await response.json(),
      shown: (await page.locator(".result-window").innerText()).replaceAll("\u00a0", " "),
      requests,
      errors,
    }),
  );
} finally {
  await browser.close();
}
