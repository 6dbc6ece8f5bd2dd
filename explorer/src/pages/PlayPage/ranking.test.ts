import { expect, test } from "vitest";
import { neededPerToken, ranked, rankedOnToken, relativeOf } from "./ranking";

const firing = (
  index: number,
  activation: number,
  frequency: number | null,
  maxActivation: number | null,
) => ({
  activation,
  neuron: { index, frequency, maxActivation },
});
const DENSE_ONE = firing(1, 9, 0.4, 30);
const RARE = firing(2, 5, 0.0004, 6);
const EDGE = firing(3, 4, 0.01, 4);
const UNKNOWN = firing(4, 3, null, null);
const ALL = [DENSE_ONE, RARE, EDGE, UNKNOWN];
const order = (found: readonly (typeof DENSE_ONE)[]) => found.map(({ neuron }) => neuron.index);

test("dense neurons are left out before the first ones are taken; one percent is not dense yet", () => {
  expect(order(ranked(ALL, { hidesDense: true, order: "activation" }, 2))).toEqual([2, 3]);
  expect(order(ranked(ALL, { hidesDense: false, order: "activation" }, 2))).toEqual([1, 2]);
});

test("relative to their own maxima weak neurons come first, those without an index last", () => {
  expect(order(ranked(ALL, { hidesDense: false, order: "relative" }, 4))).toEqual([3, 2, 1, 4]);
  expect(order(ALL)).toEqual([1, 2, 3, 4]);
});

test("an activation may be beyond the index's highest, and has no share of none", () => {
  expect(relativeOf(firing(1, 9, 0.1, 6))).toBe(1.5);
  expect(relativeOf(firing(1, 9, 0, 0))).toBeNull();
});

test("of long prompts no more neurons are asked for than an answer may have", () => {
  const hides = { hidesDense: true, order: "activation" } as const;
  expect(neededPerToken({ ...hides, hidesDense: false }, 10)).toBe(8);
  expect(neededPerToken(hides, 10)).toBe(24);
  expect(neededPerToken(hides, 1_000) * 1_000).toBeLessThanOrEqual(20_000);
  expect(rankedOnToken(Array(24).fill(RARE), hides)).toHaveLength(8);
});
