// GraphiQL as a user handles it: its tabs, editors and buttons.

const RUN = ".graphiql-execute-button";
export const RESULT = ".result-window";
export const QUERY = ".graphiql-query-editor";
export const VARIABLES = ".graphiql-editor-tool .graphiql-editor:not(.hidden)";

/** Wait until the page is drawn and, as the editor checks its text against it, the schema is there. */
export async function loaded(page) {
  await page.locator(`${QUERY} .view-line`).first().waitFor();
}

/** Open a tab, and wait until the editors have drawn what is filled in. */
export async function chooseTab(page, number) {
  await page.locator(".graphiql-tab-button").nth(number).click();
  await page.evaluate(
    () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(resolve)))),
  );
}

/** Run an operation: by the button, or where the tab has several, by the menu that the button then has. */
export async function run(page, name) {
  if (name) {
    // The button has its menu once the editor has read the tab's operations.
    await page.locator(`${RUN}[aria-haspopup]`).click();
    await page.getByRole("menuitem", { name, exact: true }).click();
  } else {
    await page.getByRole("button", { name: /^Execute query/ }).click();
  }
}

export async function stop(page) {
  await page.getByRole("button", { name: /^Stop query/ }).click();
}

/** Wait until nothing runs any more. */
export async function finished(page) {
  await page.getByRole("button", { name: /^Execute query/ }).waitFor();
}

/** Return the text of an editor, line by line. */
export async function text(page, editor) {
  const lines = await page
    .locator(`${editor} .view-line`)
    .evaluateAll((all) => all.map((line) => [parseFloat(line.style.top), line.textContent]));
  const inOrder = lines.sort(([one], [other]) => one - other).map(([, line]) => line);
  return inOrder.join("\n").replaceAll("\u00a0", " ");
}

/** Wait for a text in the result. */
export async function shown(page, expected) {
  await page.locator(`${RESULT} .view-line`, { hasText: expected }).first().waitFor();
}

/** Wait for a text in the result, and return all of it; for one that needs no scrolling. */
export async function result(page, expected) {
  await shown(page, expected);
  return JSON.parse((await text(page, RESULT)).replaceAll("\n", "")); // Long lines are wrapped.
}

/** Run a query or a mutation, and return what was sent and answered once it is shown. */
export async function ask(page, name) {
  const answered = page.waitForResponse(
    (response) => response.request().method() === "POST" && !response.request().postData().includes("__schema"),
  );
  await run(page, name);
  const response = await answered;
  await finished(page);
  await shown(page, '"data"');
  return { sent: response.request().postDataJSON(), status: response.status(), received: await response.json() };
}

/** Replace the text of an editor by pasting another. */
export async function paste(page, editor, content) {
  await page.locator(`${editor} .view-lines`).click();
  await page.keyboard.press("Control+A");
  await page.evaluate((copied) => navigator.clipboard.writeText(copied), content);
  await page.keyboard.press("Control+V");
}

/** Return the values in the variables editor. */
export async function variables(page) {
  return JSON.parse((await text(page, VARIABLES)).replaceAll(/\/\/.*/g, ""));
}

/** Wait until the variables editor has a value. */
export async function waitForVariable(page, name, value) {
  await page.locator(`${VARIABLES} .view-line`, { hasText: `"${name}": ${JSON.stringify(value)}` }).waitFor();
}

/** Return the names of all tabs. */
export async function tabNames(page) {
  return page.locator(".graphiql-tab-button").allTextContents();
}

/** Put values into the variables editor, and wait until GraphiQL keeps them with their tab. */
export async function fillIn(page, values) {
  const after = JSON.stringify({ ...(await variables(page)), ...values });
  await paste(page, VARIABLES, after);
  await page.waitForFunction(
    (variables) => JSON.parse(localStorage["graphiql:tabState"]).tabs.some((tab) => tab.variables === variables),
    after,
  );
}
