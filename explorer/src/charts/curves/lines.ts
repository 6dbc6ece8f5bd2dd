import type { TrainingCurve } from "../../api/trainingCurve";

export const X_AXES = ["steps", "tokens", "time"] as const;
export type XAxis = (typeof X_AXES)[number];

/** What is shown of an axis, from and to. */
export type Range = readonly [from: number, to: number];

/** A line to draw: x rises, and null is a gap. */
export interface Line {
  /** The SAE's ID. */
  id: string;
  label: string;
  /** Place among all lines, hidden ones too: color and dashes do not change as others come and go. */
  place: number;
  x: readonly number[];
  y: readonly (number | null)[];
  /** Before smoothing; null where y is that. */
  raw: readonly (number | null)[] | null;
}

/** Returns where the points of a curve stand. The API tells no times: they follow from tokens per second. */
export function xOf(curve: TrainingCurve, axis: XAxis): readonly number[] {
  if (axis === "steps") return curve.steps;
  if (axis === "tokens") return curve.tokenCounts;
  const speeds = curve.values.get("TOKENS_PER_SECOND") ?? [];
  let seconds = 0;
  let tokens = 0;
  return curve.tokenCounts.map((count, index) => {
    const speed = speeds[index];
    if (speed) seconds += (count - tokens) / speed;
    tokens = count;
    return seconds;
  });
}

/** Returns an exponential moving average whose start does not lean to 0; 0 smooths nothing, and 1 is not reached. */
export function smoothed(values: readonly (number | null)[], weight: number): (number | null)[] {
  let sum = 0;
  let share = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    share = weight * share + (1 - weight);
    return sum / share;
  });
}

/** Returns the index of the value nearest to a place in rising values; -1 of none. */
export function nearest(values: readonly number[], place: number): number {
  let low = 0;
  let high = values.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((values[middle] ?? 0) < place) low = middle;
    else high = middle;
  }
  return high >= 0 && Math.abs((values[high] ?? 0) - place) < Math.abs((values[low] ?? 0) - place)
    ? high
    : Math.min(low, high);
}

/** Returns the ends of all lines' x; of a log axis without what it cannot show. Null where there is none. */
export function xExtent(lines: readonly Pick<Line, "x">[], isLog: boolean): Range | null {
  let [from, to] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const { x } of lines) {
    const first = isLog ? x.find((value) => value > 0) : x[0];
    if (first === undefined) continue;
    from = Math.min(from, first);
    to = Math.max(to, x.at(-1) ?? first);
  }
  return from <= to ? [from, to] : null;
}

/** Returns the lowest and highest value within a range of x; of a log axis without what it cannot show. */
export function yExtent(lines: readonly Line[], range: Range | null, isLog: boolean): Range | null {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const { x, y, raw } of lines) {
    const values = raw ?? y;
    for (let index = 0; index < values.length; index += 1) {
      const value = values[index];
      if (value === null || value === undefined || (isLog && value <= 0)) continue;
      const place = x[index] ?? 0;
      if (range && (place < range[0] || place > range[1])) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low <= high ? [low, high] : null;
}
