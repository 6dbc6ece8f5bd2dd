import { expect, test } from "vitest";
import { cellAfter, mappedNeurons, shade } from "./heatMap";

test("arrow keys stay on the map", () => {
  expect(cellAfter("ArrowRight", { row: 0, column: 4 }, 3, 5)).toEqual({ row: 0, column: 4 });
  expect(cellAfter("ArrowUp", { row: 1, column: 4 }, 3, 5)).toEqual({ row: 0, column: 4 });
  expect(cellAfter("Home", { row: 2, column: 4 }, 3, 5)).toEqual({ row: 2, column: 0 });
  expect(cellAfter("Tab", { row: 2, column: 4 }, 3, 5)).toBeNull();
});

test("what does not fire has no shade, and the largest activation the darkest", () => {
  expect(shade(0, 5)).toBe(0);
  expect(shade(5, 5)).toBe(1);
  expect(shade(0.01, 5)).toBeGreaterThan(0.1);
  expect(shade(0, 0)).toBe(0);
});

test("a neuron is on the map once, and no more than one may ask for", () => {
  expect(mappedNeurons([5, 6], [6, 7])).toEqual([5, 6, 7]);
  expect(mappedNeurons([1, 2], [3], 2)).toEqual([1, 2]);
});
