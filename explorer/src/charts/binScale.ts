/** Where the bins of a histogram lie from 0 to 1, on a linear or a logarithmic axis. */
export interface BinScale {
  /** One for each edge. */
  positions: readonly number[];
  valueAt: (position: number) => number;
  /** At the nearest end where the value is beyond the bins. */
  positionOf: (value: number) => number;
}

/** Returns the scale. On a logarithmic axis what is not positive lies at the beginning. */
export function binScale(edges: readonly number[], log: boolean): BinScale {
  const lowestPositive = edges.find((edge) => edge > 0) ?? 1;
  const to = log ? (value: number) => Math.log10(Math.max(value, lowestPositive)) : (value: number) => value;
  const from = log ? (value: number) => 10 ** value : (value: number) => value;
  const low = to(edges[0] ?? 0);
  const span = to(edges.at(-1) ?? 1) - low || 1;
  return {
    positions: edges.map((edge) => (to(edge) - low) / span),
    valueAt: (position) => from(low + Math.min(1, Math.max(0, position)) * span),
    positionOf: (value) => Math.min(1, Math.max(0, (to(value) - low) / span)),
  };
}

/** Returns bars' heights from 0 to 1; on a logarithmic axis one count is seen beside a million. */
export function barHeights(counts: readonly number[], log: boolean): number[] {
  const of = log ? (count: number) => Math.log10(count + 1) : (count: number) => count;
  const highest = counts.reduce((most, count) => Math.max(most, of(count)), 0);
  return counts.map((count) => (highest > 0 ? of(count) / highest : 0));
}

/** Returns the share of what was counted that is below a value, as if each bin's were spread evenly over it. */
export function shareBelow(edges: readonly number[], counts: readonly number[], value: number): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const below = counts.reduce((sum, count, bin) => {
    const [from, to] = [edges[bin] ?? 0, edges[bin + 1] ?? 0];
    const share = to > from ? Math.min(1, Math.max(0, (value - from) / (to - from))) : Number(value > from);
    return sum + count * share;
  }, 0);
  return total > 0 ? below / total : 0;
}
