import { DEFAULTS, type Edit, searchOf } from "../PlayPage/settings";

export interface Steerable {
  index: number;
  steeringRange: { typical: number } | null;
}

/** Returns the playground's query to steer toward one set: its neurons added, those of the other turned off. */
export function searchToward(
  toward: readonly Steerable[],
  away: readonly Steerable[],
  prompt: string,
): string {
  const added = toward.map(
    ({ index, steeringRange }): Edit => ({
      index,
      multiplier: 1,
      bias: steeringRange ? Number(steeringRange.typical.toPrecision(4)) : null,
    }),
  );
  const off = away.map(({ index }): Edit => ({ index, multiplier: 0, bias: 0 }));
  return searchOf({ ...DEFAULTS, prompt, edits: [...added, ...off] }).toString();
}
