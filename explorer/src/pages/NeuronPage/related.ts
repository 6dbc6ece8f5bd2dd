import type { Shared_NeuronNameFragment } from "../../api/Shared.generated";
import type { NeuronShown } from "./Neuron";

/** A neuron that is related to the one that is shown. */
export interface RelatedNeuron {
  neuron: Shared_NeuronNameFragment;
  /** How much: a cosine or a correlation. */
  value: number;
}

type Lists = Pick<NeuronShown, "similarNeurons" | "correlatedNeurons">;

/** Returns the neurons of both lists, nearest first; undefined where the index has no such list. */
export function relatedOf({ similarNeurons, correlatedNeurons }: Lists) {
  return {
    similar: similarNeurons?.map(({ neuron, cosine }): RelatedNeuron => ({ neuron, value: cosine })),
    correlated: correlatedNeurons?.map(
      ({ neuron, correlation }): RelatedNeuron => ({ neuron, value: correlation }),
    ),
  };
}

/** Returns the indices of both lists, each once and in an order of their own: the same neurons are one query. */
export function indicesOf(lists: Lists): number[] {
  const { similar = [], correlated = [] } = relatedOf(lists);
  return [...new Set([...similar, ...correlated].map(({ neuron }) => neuron.index))].sort((a, b) => a - b);
}
