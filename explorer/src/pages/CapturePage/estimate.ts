import type { FloatType } from "../../generated/types";

const BYTES: Record<FloatType, number> = { FLOAT32: 4, FLOAT16: 2, BFLOAT16: 2 };

interface Capture {
  texts: number | null;
  /** Of a text, as a preview tells. */
  meanTokens: number | null;
  maxLength: number;
  splits: boolean;
  /** Of each layer, how many numbers it has for a token. */
  widths: readonly (number | null)[];
  dtype: FloatType;
}

/**
 * Returns how many tokens a capture has and how many bytes it takes, about; null where that is not known.
 * Cutting at maxLength is taken to concern the mean, so that it is rather too high.
 */
export function estimate(capture: Capture): { tokens: number; bytes: number } | null {
  const { texts, meanTokens, maxLength, splits, widths, dtype } = capture;
  if (texts === null || meanTokens === null || widths.includes(null)) return null;
  const tokens = Math.round(texts * (splits ? meanTokens : Math.min(meanTokens, maxLength)));
  const numbers = widths.reduce<number>((sum, width) => sum + (width ?? 0), 0);
  return { tokens, bytes: tokens * numbers * BYTES[dtype] };
}

/** Returns how many texts are captured of so many, with the first ones left out and a limit. */
export function textsTaken(count: number | null, offset: number, limit: number | null): number | null {
  if (count === null) return limit;
  return Math.max(0, Math.min(count - offset, limit ?? count));
}
