import { expect, test } from "vitest";
import { barHeights, binScale, shareBelow } from "./binScale";

test("linear edges lie where they are, and back", () => {
  const { positions, valueAt } = binScale([-1, 0, 3], false);
  expect(positions).toEqual([0, 0.25, 1]);
  expect(valueAt(0.25)).toBe(0);
  expect([valueAt(-1), valueAt(2)]).toEqual([-1, 3]);
});

test("each power of ten is as wide on a logarithmic axis, and zero lies at its beginning", () => {
  const { positions, valueAt } = binScale([0, 0.001, 0.01, 0.1, 1], true);
  expect(positions.map((position) => Number(position.toFixed(6)))).toEqual([0, 0, 0.333333, 0.666667, 1]);
  expect(valueAt(2 / 3)).toBeCloseTo(0.1, 10);
});

test("one value alone has a place", () => {
  expect(binScale([2, 2], false).positions).toEqual([0, 0]);
});

test("a single count is seen beside a million only on a logarithmic axis", () => {
  expect(barHeights([0, 1, 1_000_000], false)[1]).toBe(1e-6);
  const [none, one, most] = barHeights([0, 1, 1_000_000], true);
  expect([none, most]).toEqual([0, 1]);
  expect(one).toBeGreaterThan(0.05);
  expect(barHeights([0, 0], true)).toEqual([0, 0]);
});

test("a value's place is the way back from it, and that of the nearest end beyond the bins", () => {
  for (const log of [false, true]) {
    const { valueAt, positionOf } = binScale([1, 10, 100], log);
    expect(positionOf(valueAt(0.3))).toBeCloseTo(0.3);
    expect(positionOf(1_000)).toBe(1);
    expect(positionOf(-5)).toBe(0);
  }
});

test("a value is above the bins before its own, and above a part of its own", () => {
  expect(shareBelow([0, 2, 4, 6], [6, 3, 1], 4)).toBe(0.9);
  expect(shareBelow([0, 2, 4, 6], [6, 3, 1], 5)).toBe(0.95);
  expect(shareBelow([0, 2, 4, 6], [6, 3, 1], 99)).toBe(1);
  expect(shareBelow([0, 2], [0], 1)).toBe(0);
});
