import type { SaePageDensityQuery } from "./SaePage.generated";

export type Density = NonNullable<NonNullable<SaePageDensityQuery["sae"]>["neuronDensity"]>;

export function highestOf({ counts }: Density): number {
  return counts.reduce((most, row) => row.reduce((high, count) => Math.max(high, count), most), 0);
}

/** Returns the cell at shares of both axes from 0 to 1, with its edges (log10) and count. */
export function cellAt({ xEdges, yEdges, counts }: Density, x: number, y: number) {
  const place = (share: number, cells: number) => Math.min(cells - 1, Math.floor(share * cells));
  const row = place(y, counts.length);
  const column = place(x, counts[row]?.length ?? 1);
  return {
    count: counts[row]?.[column] ?? 0,
    x: [xEdges[column] ?? 0, xEdges[column + 1] ?? 0] as const,
    y: [yEdges[row] ?? 0, yEdges[row + 1] ?? 0] as const,
  };
}

/** Returns where a value lies from 0 to 1 on a logarithmic axis. */
export function shareOf(edges: readonly number[], value: number): number {
  const [low, high] = [edges[0] ?? 1, edges.at(-1) ?? 1];
  const share = Math.log(Math.max(value, low) / low) / (Math.log(high / low) || 1);
  return Math.min(1, Math.max(0, share));
}
