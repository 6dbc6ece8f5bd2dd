// Goes the whole way of the second tab: each step in its order, with what the steps before it have answered.
import { ask, chooseTab, fillIn, finished, loaded, run, shown } from "./graphiql.mjs";
import { visit } from "./visit.mjs";

const STEPS = 1;
const JOBS = 2;

await visit(async ({ page, shoot, variables }) => {
  async function step(name) {
    const { received } = await ask(page, name);
    await shoot(name);
    return received.data;
  }

  // Launch a job, wait for its end in the next tab, and return what it makes.
  async function launch(name) {
    const [{ job }] = Object.values(await step(name));
    await chooseTab(page, JOBS);
    await fillIn(page, { id: job.id });
    await run(page, "JobProgress");
    await shown(page, '"SUCCEEDED"');
    await finished(page);
    await shoot(`${name}_followed`);
    await chooseTab(page, STEPS);
    return job.result;
  }

  await loaded(page);
  await chooseTab(page, STEPS);
  await fillIn(page, variables);
  const { addLanguageModel } = await step("Step1AddLanguageModel");
  await fillIn(page, { languageModelId: addLanguageModel.languageModel.id });
  await launch("Step2Load");
  const { languageModel } = await step("Step3ChooseLayer");
  await fillIn(page, { layer: languageModel.layers[0].name });
  const captured = await launch("Step4Capture");
  await fillIn(page, { runId: captured.id });
  const trained = await launch("Step5Train");
  await fillIn(page, { saeId: trained.id });
  let looked;
  do {
    looked = await step("Step6LookAtNeurons");
  } while (looked.index.neuronIndex?.status !== "READY");
  await fillIn(page, { neuronIndex: 1 });
  const { setConcept } = await step("Step7NameNeuron");
  const { generate } = await step("Step8Steer");
  await launch("Step9Measure");
  const { sae } = await step("Step10ReadFigures");
  return { looked, named: setConcept.concept, steered: generate.outputs, measured: sae.evaluation };
});
