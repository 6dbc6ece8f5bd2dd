import type { PlayPage_NeuronFragment } from "./PlayPage.generated";
import type { Edit } from "./settings";

/** Where nothing says how strongly a neuron fires. */
const UNKNOWN = { suppress: -10, typical: 10, strong: 40 };

export interface Ends {
  suppress: number;
  typical: number;
  strong: number;
}

/** Returns sensible ends of a bias: the index's, else some that are usual for unscaled activations. */
export function endsOf(neuron: PlayPage_NeuronFragment | undefined): Ends {
  return neuron?.steeringRange ?? UNKNOWN;
}

/** Returns the edits with typical biases in place of those that were to be found; the same list if none was. */
export function resolved(
  edits: readonly Edit[],
  neurons: ReadonlyMap<number, PlayPage_NeuronFragment>,
): readonly Edit[] {
  if (!edits.some(({ index, bias }) => bias === null && neurons.has(index))) return edits;
  return edits.map((edit) =>
    edit.bias === null && neurons.has(edit.index)
      ? { ...edit, bias: Number(endsOf(neurons.get(edit.index)).typical.toPrecision(4)) }
      : edit,
  );
}

/** Returns an edit in words, such as "off" or "× 2 + 8". */
export function editWords({ multiplier, bias }: Edit): string {
  const added = bias ?? 0;
  if (multiplier === 0 && added === 0) return "off";
  if (multiplier === 1 && added === 0) return "as it is";
  const factor = multiplier === 1 ? "" : `× ${multiplier}`;
  const sum = added === 0 ? "" : `${added > 0 ? "+" : "−"} ${Math.abs(added)}`;
  return [factor, sum].filter(Boolean).join(" ");
}
