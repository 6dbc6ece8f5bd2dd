import { Histogram } from "../../charts/Histogram";
import type { NeuronShown } from "./Neuron";

/** How strongly it fires how often. */
export function Firings({ neuron: { dead, activationHistogram } }: { neuron: NeuronShown }) {
  if (dead) return <p className="muted">It fired on no token of the index.</p>;
  if (!activationHistogram || activationHistogram.counts.length === 0) return null;
  return (
    <>
      <h3>Activations, while it fires</h3>
      <Histogram label="Tokens by activation" {...activationHistogram} logY />
      <p className="muted">Counts are on a logarithmic axis.</p>
    </>
  );
}
