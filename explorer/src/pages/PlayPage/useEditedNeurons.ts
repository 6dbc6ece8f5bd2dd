import { useState } from "react";
import { useData } from "../../api/hooks";
import type { Problem } from "../../api/problems";
import { neuronName } from "./NeuronLink";
import { type PlayPage_NeuronFragment, PlayPageEditedQueryDocument } from "./PlayPage.generated";
import type { PlaySettings } from "./settings";

/** The most neurons of a page of them. */
const MAX_ASKED = 100;

interface EditedNeurons {
  /** By index; those that have been loaded. */
  neurons: ReadonlyMap<number, PlayPage_NeuronFragment>;
  nameOf: (index: number) => string;
  /** Whether a typical bias is still to come. */
  isWaiting: boolean;
  problem: Problem | null;
}

/** Knows the names and steering ranges of the neurons that are edited or watched. */
export function useEditedNeurons(saeId: string, { edits, watch }: PlaySettings): EditedNeurons {
  const [neurons, setNeurons] = useState<ReadonlyMap<number, PlayPage_NeuronFragment>>(new Map());
  const [last, setLast] = useState<readonly PlayPage_NeuronFragment[]>();
  const indices = [...new Set([...edits.map(({ index }) => index), ...watch])].sort((a, b) => a - b);
  const { data, problem, loading } = useData(
    PlayPageEditedQueryDocument,
    { saeId, indices: indices.slice(0, MAX_ASKED) },
    { pause: indices.length === 0 },
  );
  const loaded = data?.sae?.neurons.nodes;
  if (loaded && loaded !== last) {
    setLast(loaded);
    setNeurons(new Map([...neurons, ...loaded.map((neuron) => [neuron.index, neuron] as const)]));
  }
  const nameOf = (index: number) => neuronName(neurons.get(index) ?? { index, concept: null });
  const isWaiting = loading && edits.some(({ index, bias }) => bias === null && !neurons.has(index));
  return { neurons, nameOf, isWaiting, problem };
}
