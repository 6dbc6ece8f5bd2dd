import { Key } from "../../components/Key";
import type { RandomNeuron } from "./useRandomNeuron";

/** Leads to a neuron drawn at random; its key is that of the page. */
export function RandomButton({ random: { go, told } }: { random: RandomNeuron }) {
  return (
    <>
      <button type="button" className="plain" aria-keyshortcuts="r" onClick={go}>
        Random neuron <Key name="r" />
      </button>
      {told && <span role="alert">{told}</span>}
    </>
  );
}
