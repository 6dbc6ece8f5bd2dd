import { expect, test } from "vitest";
import { cellAt, highestOf, shareOf } from "./density";

const DENSITY = {
  xEdges: [-4, -3, -2],
  yEdges: [0, 1, 2],
  counts: [
    [1, 0],
    [7, 30],
  ],
};

test("a place in the plot is a cell, rows from the bottom", () => {
  expect(cellAt(DENSITY, 0.1, 0.1)).toEqual({ count: 1, x: [-4, -3], y: [0, 1] });
  expect(cellAt(DENSITY, 1, 1)).toEqual({ count: 30, x: [-3, -2], y: [1, 2] });
  expect(cellAt(DENSITY, 0.2, 0.9).count).toBe(7);
  expect(highestOf(DENSITY)).toBe(30);
});

test("values lie on the axis by their logarithm, and never outside", () => {
  expect(shareOf([0.001, 0.1], 0.01)).toBeCloseTo(0.5);
  expect(shareOf([0.001, 0.1], 0)).toBe(0);
  expect(shareOf([0.001, 0.1], 4)).toBe(1);
});
