// Opens each tab that a first visitor has, and then writes variables that leave out what has a default.
import { QUERY, VARIABLES, chooseTab, fillIn, loaded, paste, text } from "./graphiql.mjs";
import { visit } from "./visit.mjs";

const COMPLAINTS = ".squiggly-error, .squiggly-warning";

await visit(async ({ page, shoot, mutation, variables, wrong }) => {
  const complaints = page.locator(COMPLAINTS);
  await loaded(page);
  const tabs = [];
  const names = page.locator(".graphiql-tab-button");
  for (let number = 0; number < (await names.count()); number++) {
    await chooseTab(page, number);
    await shoot(`tab_${number}`);
    const tab = {
      name: await names.nth(number).textContent(),
      query: await text(page, QUERY),
      variables: await text(page, VARIABLES),
    };
    if (tab.variables) {
      await fillIn(page, { superfluous: 1 });
      await complaints.first().waitFor(); // That one is to be complained of, and no other.
      tab.complaints = await complaints.count();
    }
    tabs.push(tab);
  }

  // The editor complains of the wrong ones first, so it has looked when it does not complain of the right ones.
  await page.getByRole("button", { name: "New tab" }).click();
  await paste(page, QUERY, mutation);
  await paste(page, VARIABLES, JSON.stringify(wrong));
  await complaints.first().waitFor();
  await shoot("variables_wrong");
  await paste(page, VARIABLES, JSON.stringify(variables));
  await complaints.first().waitFor({ state: "detached" });
  await shoot("variables_right");
  return { tabs };
});
