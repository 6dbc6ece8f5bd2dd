import { useEffect } from "react";
import { useClient } from "urql";
import { whenIdle } from "../SaePage/useIdle";
import { NeuronPageQueryDocument, type NeuronPageQueryVariables } from "./NeuronPage.generated";

/** Loads the next and the previous neuron's page ahead, so that going through a list takes no time. */
export function useNeighbors(
  variables: NeuronPageQueryVariables,
  neuron: { previousIndex: number | null; nextIndex: number | null } | null | undefined,
): void {
  const client = useClient();
  const key = JSON.stringify(variables);
  const neighbors = JSON.stringify([neuron?.nextIndex ?? null, neuron?.previousIndex ?? null]);
  useEffect(() => {
    const given: NeuronPageQueryVariables = JSON.parse(key);
    const indices: (number | null)[] = JSON.parse(neighbors);
    return whenIdle(() => {
      for (const index of indices) {
        if (index === null) continue;
        const ahead = { ...given, index };
        void client.query(NeuronPageQueryDocument, ahead, { requestPolicy: "cache-first" }).toPromise();
      }
    });
  }, [client, key, neighbors]);
}
