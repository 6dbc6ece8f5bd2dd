import type { TrainSaeInput } from "../../generated/types";

/** More trainings at once make a queue that others wait for. */
export const MAX_SWEEP = 12;

/** Tokens of a step, unless a run has fewer: the server refuses a step that is larger than the run. */
export const STEP_TOKENS = 1024;

/** Returns the whole numbers of a list such as "16, 32"; null where something in it is none. */
export function numbersOf(text: string): number[] | null {
  const parts = text.split(/[\s,;]+/).filter((part) => part !== "");
  const numbers = parts.map(Number);
  return numbers.every(Number.isSafeInteger) ? [...new Set(numbers)] : null;
}

type Base = Omit<TrainSaeInput, "latentCount" | "k">;

/** Returns a training for each pair of sizes; without any given, the server chooses. */
export function trainingsOf(
  base: Base,
  latentCounts: readonly number[],
  ks: readonly number[],
): TrainSaeInput[] {
  const sizes = latentCounts.length > 0 ? latentCounts : [null];
  const actives = ks.length > 0 ? ks : [null];
  const isSweep = sizes.length * actives.length > 1;
  return sizes.flatMap((latentCount) =>
    actives.map((k) => {
      const parts = [base.name, latentCount, k !== null && `k ${k}`].filter(Boolean);
      return { ...base, latentCount, k, name: isSweep && base.name ? parts.join(", ") : base.name };
    }),
  );
}
