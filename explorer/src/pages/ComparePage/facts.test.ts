import { expect, test } from "vitest";
import {
  basesOf,
  basisOf,
  type ComparedSae,
  configurationOf,
  differing,
  type Evaluation,
  figuresOf,
} from "./facts";

function evaluation(changes: Partial<Evaluation> = {}): Evaluation {
  return {
    evaluatedAt: "2026-01-01T00:00:00Z",
    dataset: { description: "wiki" },
    sampleOffset: 1000,
    sampleLimit: 256,
    sampleCount: 250,
    maxLength: 128,
    excludeFirstPositions: 0,
    excludeOutliers: null,
    explainedVariance: 0.8,
    mse: 0.5,
    l0: 32,
    ceLossRecovered: null,
    ...changes,
  } as Evaluation;
}

function sae(changes: Partial<ComparedSae> = {}): ComparedSae {
  return {
    __typename: "Sae",
    id: "sae_1",
    saeClass: "TopKSae",
    languageModel: { id: "lm_1", name: "tiny" },
    activationRun: { id: "run_1", name: "run" },
    layer: "blocks_0",
    k: 32,
    trainingConfig: { learningRate: 1e-3, seed: 1, l1Lambda: 0, epochs: 2 },
    evaluations: [],
    ...changes,
  } as unknown as ComparedSae;
}

test("only what differs is left, and what one SAE does not have differs", () => {
  const imported = sae({ trainingConfig: null, k: 64 });
  const facts = differing(configurationOf([sae(), imported]));
  expect(facts.map(({ name, values }) => [name, ...values])).toEqual([
    ["K", "32", "64"],
    ["Learning rate", "0.001", null],
    ["L1 coefficient", "0", null],
    ["Epochs", "2", null],
    ["Seed", "1", null],
  ]);
  expect(differing(configurationOf([sae(), sae()]))).toEqual([]);
});

test("a training that goes on has what was asked for", () => {
  const job = { request: { __typename: "TrainRequest", learningRate: 0.02, epochs: 5, k: 8 } };
  const running = sae({ trainingConfig: null, k: null, job } as unknown as Partial<ComparedSae>);
  const told = Object.fromEntries(configurationOf([running]).map(({ name, values }) => [name, values[0]]));
  expect([told["Learning rate"], told.Epochs, told.K, told.Seed]).toEqual(["0.02", "5", "8", null]);
});

test("evaluations are about the same only if texts, lengths and exclusions are", () => {
  expect(basisOf(evaluation())).toBe("wiki, texts 1,001 to 1,256, up to 128 tokens of each");
  const all = [
    evaluation(),
    evaluation({ maxLength: 64 }),
    evaluation({ excludeFirstPositions: 1 }),
    evaluation({ excludeOutliers: 10 }),
    evaluation({ sampleOffset: 0 }),
    evaluation({ dataset: { description: "code" } }),
  ];
  expect(new Set(all.map(basisOf)).size).toBe(6);
  expect(basisOf(evaluation({ explainedVariance: 0.1, tokenCount: 9 }))).toBe(basisOf(evaluation()));
});

test("what most SAEs were measured on comes first, then what was measured last", () => {
  const code = evaluation({ dataset: { description: "code" }, evaluatedAt: "2026-03-01T00:00:00Z" });
  const news = evaluation({ dataset: { description: "news" }, evaluatedAt: "2026-02-01T00:00:00Z" });
  const saes = [
    sae({ evaluations: [news, evaluation(), evaluation()] }),
    sae({ evaluations: [code, evaluation()] }),
  ];
  expect(basesOf(saes).map((basis) => basis.split(",")[0])).toEqual(["wiki", "code", "news"]);
});

test("the best is told in the figure's direction, not of what has none, is alone or all alike", () => {
  const facts = figuresOf([
    evaluation({ explainedVariance: 0.8, mse: 0.4, l0: 10, ceLossRecovered: 0.9 }),
    undefined,
    evaluation({ explainedVariance: 0.9, mse: 0.4, l0: 50, ceLossRecovered: null }),
  ]);
  const found = Object.fromEntries(facts.map(({ name, values, best }) => [name, [values, best]]));
  expect(found["Variance explained"]).toEqual([["80%", null, "90%"], [2]]);
  expect(found["Mean squared error"]).toEqual([["0.4", null, "0.4"], []]);
  expect(found["CE loss recovered"]).toEqual([["90%", null, null], []]);
  expect(found.L0).toEqual([["10", null, "50"], []]);
  const lower = figuresOf([evaluation({ mse: 0.4 }), evaluation({ mse: 0.3 })]);
  expect(lower.find(({ name }) => name === "Mean squared error")?.best).toEqual([1]);
});
