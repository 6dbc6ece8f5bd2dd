import { expect, test } from "vitest";
import { indicesOf, relatedOf } from "./related";

const named = (index: number) => ({ id: `neuron_${index}`, index, concept: null });
const similarNeurons = [
  { cosine: 0.9, neuron: named(12) },
  { cosine: 0.4, neuron: named(3) },
];
const correlatedNeurons = [
  { correlation: 0.8, neuron: named(3) },
  { correlation: 0.2, neuron: named(100) },
];

test("both lists are asked for at once, each neuron once, whatever the order of the lists", () => {
  expect(indicesOf({ similarNeurons, correlatedNeurons })).toEqual([3, 12, 100]);
  expect(indicesOf({ similarNeurons: [...similarNeurons].reverse(), correlatedNeurons })).toEqual([
    3, 12, 100,
  ]);
});

test("a list that an earlier version's index lacks is told from an empty one", () => {
  expect(relatedOf({ similarNeurons, correlatedNeurons: null }).correlated).toBeUndefined();
  expect(relatedOf({ similarNeurons: [], correlatedNeurons: null }).similar).toEqual([]);
  expect(indicesOf({ similarNeurons: null, correlatedNeurons: null })).toEqual([]);
});
