import { useEffect, useState } from "react";
import { useParams, useSearchParams } from "wouter";
import { useData } from "../../api/hooks";
import { Empty } from "../../components/Empty";
import { PageHeading } from "../../components/PageHeading";
import { filterOf, withoutFigures } from "../SaePage/neuronList";
import { SaeGate } from "../SaePage/SaeGate";
import { useNeuronList } from "../SaePage/useNeuronList";
import { useRandomNeuron } from "../SaePage/useRandomNeuron";
import { Neuron } from "./Neuron";
import { NeuronPageQueryDocument } from "./NeuronPage.generated";
import { useKeys } from "./useKeys";
import { useNeighbors } from "./useNeighbors";

/** One neuron. Its place in the list that it was found in is in the address. */
export default function NeuronPage() {
  const params = useParams<{ id: string; index: string }>();
  const saeId = params.id;
  // What is no number is no neuron's, either.
  const index = /^\d{1,9}$/.test(params.index) ? Number(params.index) : -1;
  const { list, query } = useNeuronList();
  // Orders and bounds of figures are errors until there is an index, which only the answer tells.
  const [isIndexed, setIndexed] = useState(true);
  const asked = isIndexed ? list : withoutFigures(list);
  const variables = { saeId, index, orderBy: asked.order, filter: filterOf(asked) };
  const answer = useData(NeuronPageQueryDocument, variables);
  const { sae, neuron } = answer.data ?? {};
  const hasIndex = sae?.neuronIndex?.status === "READY";
  useEffect(() => {
    if (sae) setIndexed(hasIndex);
  }, [sae, hasIndex]);
  // How texts are shown, and one's own text, go along from neuron to neuron.
  const [address] = useSearchParams();
  const place = {
    list: `/saes/${saeId}${query && `?${query}`}`,
    previous: hrefOf(saeId, neuron?.previousIndex, address),
    next: hrefOf(saeId, neuron?.nextIndex, address),
  };
  const random = useRandomNeuron(saeId, list, hasIndex);
  useKeys({ j: place.next, k: place.previous, r: random.go });
  useNeighbors(variables, neuron);

  return (
    <SaeGate title={`#${params.index}`} answer={answer} sae={sae}>
      {sae &&
        (neuron ? (
          <Neuron
            key={neuron.id}
            neuron={neuron}
            sae={sae}
            place={place}
            random={random}
            hasIndex={hasIndex}
          />
        ) : (
          <>
            <PageHeading title="There is no such neuron" />
            <Empty next={{ href: place.list, label: "All neurons" }}>
              {sae.name} has the neurons 0 to {(sae.latentCount ?? 1) - 1}.
            </Empty>
          </>
        ))}
    </SaeGate>
  );
}

function hrefOf(saeId: string, index: number | null | undefined, address: URLSearchParams): string | null {
  if (index === null || index === undefined) return null;
  const search = address.toString();
  return `/saes/${saeId}/neurons/${index}${search && `?${search}`}`;
}
