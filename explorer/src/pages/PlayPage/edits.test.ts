import { expect, test } from "vitest";
import { editWords, resolved } from "./edits";

const NEURON = {
  id: "n",
  index: 3,
  concept: null,
  promotedTokens: null,
  steeringRange: { suppress: -2, typical: 2.00001, strong: 8 },
};

test("a bias that was left out is what the neuron fires with, once that is known", () => {
  const edits = [
    { index: 3, multiplier: 1, bias: null },
    { index: 4, multiplier: 1, bias: null },
    { index: 5, multiplier: 0, bias: 0 },
  ];
  expect(resolved(edits, new Map())).toBe(edits);
  expect(resolved(edits, new Map([[3, NEURON]])).map(({ bias }) => bias)).toEqual([2, null, 0]);
  expect(resolved(edits, new Map([[4, { ...NEURON, index: 4, steeringRange: null }]]))[1]?.bias).toBe(10);
});

test("an edit in words", () => {
  const words = (multiplier: number, bias: number) => editWords({ index: 1, multiplier, bias });
  expect([words(0, 0), words(1, 0), words(1, 8), words(2, -3), words(0, 4)]).toEqual([
    "off",
    "as it is",
    "+ 8",
    "× 2 − 3",
    "× 0 + 4",
  ]);
});
