import { expect, test } from "vitest";
import { drawingOf } from "./drawing";
import { listOf } from "./neuronList";
import { type Palette, pixel } from "./palette";

const PALETTE: Palette = {
  surface: [255, 255, 255],
  border: [200, 200, 200],
  text: [0, 0, 0],
  low: [0, 0, 0],
  middle: [0, 0, 255],
  high: [255, 0, 0],
};
const COLUMNS = new Map([
  ["FREQUENCY", Float32Array.from([0.1, 0, 0.001, 0.01])],
  ["MAX_ACTIVATION", Float32Array.from([5, 0, 9, 1])],
  ["DECODER_MAP_X", Float32Array.from([0, 1, 2, 3])],
  ["DECODER_MAP_Y", Float32Array.from([0, 1, 2, 3])],
] as const);

/** Returns each neuron's place in a drawing; its x is its index. */
const placeOf = (xs: Float32Array, neuron: number) => xs.indexOf(neuron);

test("colors go by the logarithm, dead neurons are faint, and the highest are drawn last", () => {
  const { xs, ys, colors } = drawingOf(COLUMNS, "FREQUENCY", PALETTE, null);
  expect([...xs]).toEqual([1, 2, 3, 0]);
  expect([...ys]).toEqual([...xs]);
  expect(colors[placeOf(xs, 0)]).toBe(pixel(PALETTE.high));
  expect(colors[placeOf(xs, 1)]).toBe(pixel(PALETTE.border));
  expect(colors[placeOf(xs, 2)]).toBe(pixel(PALETTE.low));
  // Halfway between 0.001 and 0.1.
  expect(((colors[placeOf(xs, 3)] ?? 0) >>> 16) & 255).toBeGreaterThan(250);
});

test("what the filter and the words find stands out, and covers the rest", () => {
  const filter = { list: listOf(new URLSearchParams("minf=0.005")), hits: new Set([2, 3]) };
  const { xs, colors, large } = drawingOf(COLUMNS, "FREQUENCY", PALETTE, filter);
  expect(xs.at(-1)).toBe(3);
  expect([...large]).toEqual([0, 0, 0, 1]);
  expect(colors[placeOf(xs, 0)]).toBe(pixel(PALETTE.border));
});
