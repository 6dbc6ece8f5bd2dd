import { expect, test } from "vitest";
import { boundsOf, rangeOf } from "./brush";

const EDGES = [0.001, 0.01, 0.1];

test("an end of a range at the chart's end is no bound", () => {
  expect(boundsOf([0.001, 0.023456], EDGES)).toEqual({ from: null, to: 0.0235 });
  expect(boundsOf([0.0101, 0.2], EDGES)).toEqual({ from: 0.0101, to: null });
  expect(boundsOf(null, EDGES)).toEqual({ from: null, to: null });
});

test("a bound that is left out is the chart's end", () => {
  expect(rangeOf({ from: 0.02, to: null }, EDGES)).toEqual([0.02, 0.1]);
  expect(rangeOf({ from: null, to: null }, EDGES)).toBeNull();
});
