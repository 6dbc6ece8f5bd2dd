import type { Range } from "../../charts/Histogram";
import type { Bounds } from "./neuronList";

/** Returns a range of a chart as bounds; an end at the chart's end is none, whatever rounding has made of it. */
export function boundsOf(range: Range | null, edges: readonly number[]): Bounds {
  if (!range) return { from: null, to: null };
  const [low, high] = [edges[0] ?? 0, edges.at(-1) ?? 0];
  return {
    from: range[0] <= low ? null : rounded(range[0]),
    to: range[1] >= high ? null : rounded(range[1]),
  };
}

/** Returns bounds as a range of a chart; null where there are none. */
export function rangeOf({ from, to }: Bounds, edges: readonly number[]): Range | null {
  if (from === null && to === null) return null;
  return [from ?? edges[0] ?? 0, to ?? edges.at(-1) ?? 0];
}

/** Three digits, as an address should not have more. */
function rounded(value: number): number {
  return Number(value.toPrecision(3));
}
