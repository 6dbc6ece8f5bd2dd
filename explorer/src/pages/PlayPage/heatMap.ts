/** As many columns are shown at a time: each cell is an element. */
export const COLUMNS = 96;

export interface Cell {
  row: number;
  column: number;
}

/** Returns the cell that a key leads to; null where the key is none of the map's. */
export function cellAfter(key: string, { row, column }: Cell, rows: number, columns: number): Cell | null {
  const step: Record<string, Cell> = {
    ArrowRight: { row, column: Math.min(columns - 1, column + 1) },
    ArrowLeft: { row, column: Math.max(0, column - 1) },
    ArrowDown: { row: Math.min(rows - 1, row + 1), column },
    ArrowUp: { row: Math.max(0, row - 1), column },
    Home: { row, column: 0 },
    End: { row, column: columns - 1 },
  };
  return step[key] ?? null;
}

/** Returns how dark a cell is, 0 to 1: an activation's share of the largest. */
export function shade(value: number, max: number): number {
  return value > 0 && max > 0 ? 0.1 + 0.9 * Math.min(1, value / max) : 0;
}

/** Returns the neurons to show: those that fire most, then those that are edited or watched, within the limit. */
export function mappedNeurons(top: readonly number[], others: readonly number[], limit = 64): number[] {
  return [...new Set([...top, ...others])].slice(0, limit);
}
