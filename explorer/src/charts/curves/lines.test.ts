import { expect, test } from "vitest";
import { curveOf } from "../../api/trainingCurve";
import { type Line, nearest, smoothed, xExtent, xOf, yExtent } from "./lines";

function curve(speeds: (number | null)[]) {
  return curveOf({
    sae: { id: "sae_1" },
    sequence: 1,
    steps: [1, 2, 4],
    tokenCounts: [100, 200, 400],
    series: [{ metric: "TOKENS_PER_SECOND", values: speeds }],
  });
}

function line(x: number[], y: (number | null)[]): Line {
  return { id: "a", label: "A", place: 0, x, y, raw: null };
}

test("time adds up what each stretch of tokens took", () => {
  expect(xOf(curve([10, 50, 20]), "time")).toEqual([10, 12, 22]);
  expect(xOf(curve([10, null, 20]), "time")).toEqual([10, 10, 20]);
  expect(xOf(curve([10, 50, 20]), "tokens")).toEqual([100, 200, 400]);
});

test("a smoothed constant is that constant from its first point on, and gaps stay gaps", () => {
  expect(smoothed([3, null, 3, 3], 0.9).map((value) => value && Math.round(value * 1e9) / 1e9)).toEqual([
    3,
    null,
    3,
    3,
  ]);
});

test("smoothing weighs older values down by the weight each step", () => {
  const [first, second, third] = smoothed([1, 0, 0], 0.5);
  expect(first).toBe(1);
  expect(second).toBeCloseTo(0.5 / 1.5);
  expect(third).toBeCloseTo(0.25 / 1.75);
  expect(smoothed([5, -2], 0)).toEqual([5, -2]);
});

test("the nearest point is found on either side, and at the ends", () => {
  const places = [1, 2, 4, 10];
  expect([0, 1.4, 1.6, 3.5, 6.9, 7.1, 99].map((place) => nearest(places, place))).toEqual([
    0, 0, 1, 2, 2, 3, 3,
  ]);
  expect(nearest([], 3)).toBe(-1);
  expect(nearest([7], 3)).toBe(0);
});

test("an axis reaches over all lines, and a log axis begins above zero", () => {
  expect(xExtent([line([0, 5], []), line([2, 9], []), line([], [])], false)).toEqual([0, 9]);
  expect(xExtent([line([0, 5, 6], [])], true)).toEqual([5, 6]);
  expect(xExtent([line([], [])], false)).toBeNull();
});

test("values outside of what is zoomed into do not count, nor what a log axis cannot show", () => {
  const lines = [line([1, 2, 3, 4], [100, 5, null, -1]), line([2, 8], [7, 50])];
  expect(yExtent(lines, null, false)).toEqual([-1, 100]);
  expect(yExtent(lines, [2, 4], false)).toEqual([-1, 7]);
  expect(yExtent(lines, [2, 4], true)).toEqual([5, 7]);
  expect(yExtent(lines, [5, 6], true)).toBeNull();
});

test("what smoothing hides is still within the axis", () => {
  expect(yExtent([{ ...line([1, 2], [2, 2]), raw: [1, 3] }], null, false)).toEqual([1, 3]);
});
