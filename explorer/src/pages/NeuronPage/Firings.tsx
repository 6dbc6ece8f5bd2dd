import { type Store, useStore } from "../../api/store";
import { shareBelow } from "../../charts/binScale";
import { Histogram } from "../../charts/Histogram";
import { percent, precise } from "../../components/numbers";
import type { NeuronShown } from "./Neuron";

interface FiringsProps {
  neuron: NeuronShown;
  /** The activation of a token that somebody points to in a text. */
  pointed: Store<number | null>;
}

/** How strongly it fires how often. */
export function Firings({ neuron: { dead, activationHistogram }, pointed }: FiringsProps) {
  const mark = useStore(pointed);
  if (dead) return <p className="muted">It fired on no token of the index.</p>;
  if (!activationHistogram || activationHistogram.counts.length === 0) return null;
  const { edges, counts } = activationHistogram;
  return (
    <>
      <h3>Activations, while it fires</h3>
      <Histogram label="Tokens by activation" {...activationHistogram} logY mark={mark} />
      <p className="muted" role="status">
        {mark === null
          ? "Counts are on a logarithmic axis."
          : `${precise(mark)} is above about ${percent(Number(shareBelow(edges, counts, mark).toPrecision(2)))} of its firings.`}
      </p>
    </>
  );
}
