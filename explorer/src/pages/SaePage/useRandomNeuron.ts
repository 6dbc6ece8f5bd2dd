import { useState } from "react";
import { useClient } from "urql";
import { useLocation } from "wouter";
import { addressOf, filterOf, type NeuronList } from "./neuronList";
import { firingOf, placeIn } from "./randomNeuron";
import { SaePageRandomQueryDocument } from "./SaePage.generated";

export interface RandomNeuron {
  /** Goes to the page of a neuron of the list that fires, drawn at random. */
  go: () => void;
  /** What came of the last try; empty where it led on. */
  told: string;
}

/** Draws neurons; the list comes along. */
export function useRandomNeuron(saeId: string, list: NeuronList, hasFigures: boolean): RandomNeuron {
  const client = useClient();
  const [, navigate] = useLocation();
  const [told, setTold] = useState("");
  const go = async () => {
    const filter = filterOf(firingOf(list, hasFigures));
    const ask = (offset: number) =>
      client.query(
        SaePageRandomQueryDocument,
        { id: saeId, offset, filter },
        { requestPolicy: "cache-first" },
      );
    // How many there are is known after the first time.
    const count = (await ask(0)).data?.sae?.neurons.totalCount ?? 0;
    const [drawn] = (await ask(placeIn(count, Math.random()))).data?.sae?.neurons.nodes ?? [];
    setTold(drawn ? "" : "No neuron of the list fires.");
    const query = addressOf(list).toString();
    if (drawn) navigate(`/saes/${saeId}/neurons/${drawn.index}${query && `?${query}`}`);
  };
  return { go: () => void go(), told };
}
