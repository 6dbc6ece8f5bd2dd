import type { NeuronColumn } from "../../generated/types";
import type { Columns } from "./columns";
import { figuresFit, type NeuronList } from "./neuronList";
import type { Drawing } from "./paint";
import { type Palette, pixel, ramp } from "./palette";

export type ColoredBy = Extract<NeuronColumn, "FREQUENCY" | "MAX_ACTIVATION">;

const NONE = new Float32Array();

export function columnOf(columns: Columns, column: NeuronColumn): Float32Array {
  return columns.get(column) ?? NONE;
}

/** Returns the lowest and highest value above 0; the ends of the colors. */
export function positiveExtent(values: Float32Array): [low: number, high: number] {
  let [low, high] = [Number.POSITIVE_INFINITY, 0];
  for (const value of values) {
    if (value > 0 && value < low) low = value;
    if (value > high) high = value;
  }
  return high > 0 ? [low, high] : [1, 1];
}

/** Returns neurons with their colors and whether they stand out: found ones last, so that they are seen. */
export function drawingOf(
  columns: Columns,
  by: ColoredBy,
  palette: Palette,
  filter: { list: NeuronList; hits: ReadonlySet<number> | null } | null,
): Drawing {
  const [xs, ys] = [columnOf(columns, "DECODER_MAP_X"), columnOf(columns, "DECODER_MAP_Y")];
  const [frequency, maximum] = [columnOf(columns, "FREQUENCY"), columnOf(columns, "MAX_ACTIVATION")];
  const values = by === "FREQUENCY" ? frequency : maximum;
  const [low, high] = positiveExtent(values);
  const span = Math.log(high / low) || 1;
  const shades = Uint32Array.from({ length: 256 }, (_, shade) =>
    pixel(ramp([palette.low, palette.middle, palette.high], shade / 255)),
  );
  const faint = pixel(palette.border);
  const colors = new Uint32Array(xs.length);
  const large = new Uint8Array(xs.length);
  for (let neuron = 0; neuron < xs.length; neuron += 1) {
    const value = values[neuron] ?? 0;
    const isFound =
      !filter ||
      (figuresFit(filter.list, frequency[neuron] ?? 0, maximum[neuron] ?? 0) &&
        (!filter.hits || filter.hits.has(neuron)));
    const shade = value > 0 ? shades[Math.round((255 * Math.log(value / low)) / span)] : faint;
    colors[neuron] = isFound ? (shade ?? faint) : faint;
    large[neuron] = filter && isFound ? 1 : 0;
  }
  // High values cover low ones: they are few.
  const order = Uint32Array.from(xs.keys()).sort(
    (a, b) => (large[a] ?? 0) - (large[b] ?? 0) || (values[a] ?? 0) - (values[b] ?? 0),
  );
  return {
    xs: Float32Array.from(order, (neuron) => xs[neuron] ?? Number.NaN),
    ys: Float32Array.from(order, (neuron) => ys[neuron] ?? Number.NaN),
    colors: Uint32Array.from(order, (neuron) => colors[neuron] ?? faint),
    large: Uint8Array.from(order, (neuron) => large[neuron] ?? 0),
  };
}
