// Goes the whole way of the tabs, a step in each, and writes into them only what no answer gives.
import { ask, chooseTab, fillIn, finished, loaded, run, shown, tabNames, variables, waitForVariable } from "./graphiql.mjs";
import { visit } from "./visit.mjs";

await visit(async ({ page, shoot, model, small }) => {
  const names = await tabNames(page);
  const open = (name) => chooseTab(page, names.indexOf(name));

  // A step in its tab, which shows its operation from the top.
  async function step(name) {
    await open(name);
    const { received } = await ask(page);
    await shoot(name);
    return received.data;
  }

  // Launch a job, and wait for its end in the last tab, which knows its ID by then.
  async function launch(name) {
    const [{ job, ...refusal }] = Object.values(await step(name));
    if (!job) throw new Error(`${name}: ${JSON.stringify(refusal)}`);
    await open("JobProgress");
    await waitForVariable(page, "jobId", job.id);
    await run(page);
    await shown(page, '"SUCCEEDED"');
    await finished(page);
    await shoot(`${name}_followed`);
    return job.result;
  }

  await loaded(page);
  await open("Step1Model");
  await fillIn(page, model);
  const { addLanguageModel } = await step("Step1Model");
  await launch("Step2Load");
  await step("Step3Layer");
  for (const [name, values] of Object.entries(small)) {
    await open(name);
    await fillIn(page, values);
    await launch(name);
  }
  let looked;
  do {
    looked = await step("Step6Neurons");
  } while (!looked.sae); // An error says that the neurons are still being indexed.
  const { setConcept } = await step("Step7Name");
  const { generate } = await step("Step8Steer");
  await open("Step9Measure");
  const { sampleOffset } = await variables(page);
  await launch("Step9Measure");
  const { sae } = await step("Step10Read");

  // What somebody has written stays when another answer comes; what an answer has written does not.
  await open("Step7Name");
  await fillIn(page, { neuronIndex: 3 });
  await step("Step6Neurons");
  await open("Step7Name");
  const own = await variables(page);
  const languageModel = addLanguageModel.languageModel;
  return { languageModel, looked, named: setConcept.concept, generate, sampleOffset, measured: sae.evaluation, own };
});
