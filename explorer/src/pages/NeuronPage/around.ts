import type { Shared_TextFragment } from "../../api/Shared.generated";
import { whole } from "../../components/numbers";
import { nameOf, type Token } from "../../components/tokenPieces";

const REACH = 6;

interface Stretch {
  tokens: Token[];
  activations: number[];
  peak: number;
}

/** Returns a text's tokens, all of them or those around its peak. */
export function around(text: Shared_TextFragment, isShort: boolean): Stretch {
  const from = isShort ? Math.max(0, text.peakIndex - REACH) : 0;
  const to = isShort ? text.peakIndex + REACH + 1 : text.tokenTexts.length;
  return {
    tokens: text.tokenTexts.slice(from, to).map((token) => ({ text: token })),
    activations: text.activations.slice(from, to),
    peak: text.peakIndex - from,
  };
}

/** Returns the tokens on which the neuron fires, in their order. */
export function firingTokens(tokens: readonly Token[], activations: readonly number[]) {
  return tokens.flatMap((token, place) => {
    const value = activations[place] ?? 0;
    return value === 0 ? [] : [{ place, name: nameOf(token), value }];
  });
}

/** Returns in how many texts besides the one that is shown a stretch stands, in words; nothing where that is in none, or not known. */
export function repeated(textCount: number | null | undefined): string {
  if (!textCount || textCount < 2) return "";
  return textCount === 2 ? " and 1 other" : ` and ${whole(textCount - 1)} others`;
}
