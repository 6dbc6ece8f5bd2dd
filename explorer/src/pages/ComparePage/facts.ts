import { percent, precise, whole } from "../../components/numbers";
import type { ComparePageQuery } from "./ComparePage.generated";

export type ComparedSae = Extract<NonNullable<ComparePageQuery["nodes"][number]>, { __typename: "Sae" }>;
export type Evaluation = ComparedSae["evaluations"][number];

/** One thing of each SAE, in their order; null where it is not known or has no meaning. */
export interface Fact {
  name: string;
  values: readonly (string | null)[];
  /** Places of the best values, where there is such a thing and it can be told. */
  best: readonly number[];
}

/** Returns the SAEs among what was found, in order. */
export function saesIn(nodes: ComparePageQuery["nodes"]): ComparedSae[] {
  return nodes.filter((node): node is ComparedSae => node?.__typename === "Sae");
}

/** Returns the facts in which not all are alike. */
export function differing(facts: readonly Fact[]): Fact[] {
  return facts.filter(({ values }) => values.some((value) => value !== values[0]));
}

function written(value: number | null | undefined, format: (value: number) => string): string | null {
  return value === null || value === undefined ? null : format(value);
}

/** Returns what was asked for, until it is known how the training was; nothing of an import. */
function askedOf({ job, trainingConfig }: ComparedSae) {
  if (trainingConfig) return trainingConfig;
  return job?.request.__typename === "TrainRequest" ? job.request : null;
}

/** Returns how SAEs were made, or are being made. */
export function configurationOf(saes: readonly ComparedSae[]): Fact[] {
  const fact = (name: string, value: (sae: ComparedSae) => string | null | undefined): Fact => ({
    name,
    values: saes.map((sae) => value(sae) ?? null),
    best: [],
  });
  return [
    fact("Class", (sae) => sae.saeClass),
    fact("Language model", (sae) => sae.languageModel.name),
    fact("Layer", (sae) => sae.layer),
    fact("Activation run", (sae) => sae.activationRun?.name),
    fact("Input size", (sae) => written(sae.inputSize, whole)),
    fact("Neurons", (sae) => written(sae.latentCount, whole)),
    fact("K", (sae) => written(sae.k ?? askedOf(sae)?.k, whole)),
    fact("Learning rate", (sae) => written(askedOf(sae)?.learningRate, precise)),
    fact("L1 coefficient", (sae) => written(askedOf(sae)?.l1Lambda, precise)),
    fact("Epochs", (sae) => written(askedOf(sae)?.epochs, whole)),
    fact("Batch size", (sae) => written(askedOf(sae)?.batchSize, whole)),
    fact("Excluded first positions", (sae) => written(sae.trainingConfig?.excludeFirstPositions, whole)),
    fact("Excluded outliers", (sae) =>
      written(sae.trainingConfig?.excludeOutliers, (times) => `over ${precise(times)} × median`),
    ),
    fact("Seed", (sae) => written(askedOf(sae)?.seed, String)),
    fact("Device", (sae) => sae.trainingConfig?.device),
  ];
}

/** Says which tokens an evaluation is about: those with the same words can be compared. */
export function basisOf(evaluation: Evaluation): string {
  const {
    dataset,
    sampleOffset,
    sampleLimit,
    sampleCount,
    maxLength,
    excludeFirstPositions,
    excludeOutliers,
  } = evaluation;
  const last = sampleOffset + (sampleLimit ?? sampleCount);
  return [
    dataset.description,
    `texts ${whole(sampleOffset + 1)} to ${whole(last)}`,
    `up to ${whole(maxLength)} tokens of each`,
    excludeFirstPositions > 0 && `without the first ${excludeFirstPositions}`,
    excludeOutliers && `without outliers over ${precise(excludeOutliers)} × median`,
  ]
    .filter(Boolean)
    .join(", ");
}

/** Returns on what the SAEs were measured; what most of them share comes first, then the newest. */
export function basesOf(saes: readonly ComparedSae[]): string[] {
  const counts = new Map<string, { count: number; newest: string }>();
  for (const { evaluations } of saes) {
    for (const basis of new Set(evaluations.map(basisOf))) {
      const newest = evaluations.find((one) => basisOf(one) === basis)?.evaluatedAt ?? "";
      const known = counts.get(basis);
      counts.set(basis, {
        count: (known?.count ?? 0) + 1,
        newest: known && known.newest > newest ? known.newest : newest,
      });
    }
  }
  return [...counts]
    .sort(([, a], [, b]) => b.count - a.count || b.newest.localeCompare(a.newest))
    .map(([basis]) => basis);
}

type Direction = "most" | "least" | null;

const MEASURES: readonly (readonly [
  name: string,
  value: (evaluation: Evaluation) => number | null,
  format: (value: number) => string,
  best: Direction,
])[] = [
  ["Variance explained", (one) => one.explainedVariance, percent, "most"],
  ["CE loss recovered", (one) => one.ceLossRecovered, percent, "most"],
  ["CE loss of the model", (one) => one.ceLossOriginal, precise, null],
  ["CE loss with the SAE", (one) => one.ceLossReconstructed, precise, "least"],
  ["KL divergence", (one) => one.klDivergenceReconstructed, precise, "least"],
  ["Mean squared error", (one) => one.mse, precise, "least"],
  ["Cosine similarity", (one) => one.cosineSimilarity, precise, "most"],
  ["L0", (one) => one.l0, precise, null],
  ["Dead neurons", (one) => one.deadFraction, percent, "least"],
  ["Tokens measured on", (one) => one.tokenCount, whole, null],
];

/** Returns the figures of evaluations on the same texts, one of each SAE, or none of it. */
export function figuresOf(evaluations: readonly (Evaluation | undefined)[]): Fact[] {
  return MEASURES.map(([name, value, format, best]) => {
    const numbers = evaluations.map((one) => (one ? value(one) : null));
    return { name, values: numbers.map((number) => written(number, format)), best: bestOf(numbers, best) };
  });
}

function bestOf(numbers: readonly (number | null)[], direction: Direction): number[] {
  const known = numbers.filter((number) => number !== null);
  if (direction === null || new Set(known).size < 2) return [];
  const best = direction === "most" ? Math.max(...known) : Math.min(...known);
  return numbers.flatMap((number, place) => (number === best ? [place] : []));
}
