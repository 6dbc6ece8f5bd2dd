/** How the neurons that fire on a prompt are chosen from; no run depends on it. */
export interface Ranking {
  /** Without those that fire on more than this page's share of all tokens. */
  hidesDense: boolean;
  /** By the activation, or by its share of the neuron's own maximum. */
  order: "activation" | "relative";
}

/** A neuron that fires on more tokens than that says little of one text. */
export const DENSE = 0.01;

export interface Firing {
  activation: number;
  neuron: { frequency: number | null; maxActivation: number | null };
}

/** Returns an activation as a share of the neuron's highest one in the index; null where that is not known. */
export function relativeOf({ activation, neuron: { maxActivation } }: Firing): number | null {
  return maxActivation ? activation / maxActivation : null;
}

/** Returns the first of the neurons as they are ranked; of those that are not indexed nobody knows that they are dense. */
export function ranked<One extends Firing>(all: readonly One[], ranking: Ranking, first: number): One[] {
  const kept = all.filter(({ neuron }) => !ranking.hidesDense || (neuron.frequency ?? 0) <= DENSE);
  const value = ranking.order === "relative" ? (one: One) => relativeOf(one) ?? -1 : undefined;
  return (value ? kept.sort((a, b) => value(b) - value(a)) : kept).slice(0, first);
}

/** What an answer may have of neurons, over all tokens of a prompt. */
const MAX_PER_TOKEN = 20_000;
const MOST = 24;
const SHOWN = 8;

/** Returns of how many neurons a token to ask: of more than are shown where some will be left out, within the API's limit. */
export function neededPerToken({ hidesDense, order }: Ranking, tokens: number): number {
  if (!hidesDense && order === "activation") return SHOWN;
  return Math.max(SHOWN, Math.min(MOST, Math.floor(MAX_PER_TOKEN / Math.max(1, tokens))));
}

/** Returns the first neurons of a token. */
export function rankedOnToken<One extends Firing>(all: readonly One[], ranking: Ranking): One[] {
  return ranked(all, ranking, SHOWN);
}
