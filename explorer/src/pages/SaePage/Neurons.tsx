import { useCallback } from "react";
import { useSearchParams } from "wouter";
import { Card } from "../../components/Card";
import { whole } from "../../components/numbers";
import { useKeys } from "../NeuronPage/useKeys";
import { Filters } from "./Filters";
import { NeuronHead, NeuronRow } from "./NeuronRow";
import { NeuronTable } from "./NeuronTable";
import { addressOf, filterOf, type NeuronList, withoutFigures } from "./neuronList";
import { RandomButton } from "./RandomButton";
import { type SaePageNeuronsQuery, SaePageNeuronsQueryDocument } from "./SaePage.generated";
import { useNeuronPages } from "./useNeuronPages";
import { useRandomNeuron } from "./useRandomNeuron";

interface NeuronsProps {
  saeId: string;
  list: NeuronList;
  onChange: (list: NeuronList) => void;
  /** Whether an index tells of figures. */
  hasFigures: boolean;
}

const pageOf = (data: SaePageNeuronsQuery) => data.sae?.neurons;

/** The table of all neurons, with its filters. */
export function Neurons({ saeId, list, onChange, hasFigures }: NeuronsProps) {
  const [address, setAddress] = useSearchParams();
  const asked = hasFigures ? list : withoutFigures(list);
  const pages = useNeuronPages(
    SaePageNeuronsQueryDocument,
    { id: saeId },
    { orderBy: asked.order, filter: filterOf(asked) },
    pageOf,
  );
  const random = useRandomNeuron(saeId, list, hasFigures);
  useKeys({ r: random.go });
  const query = addressOf(list).toString();
  const hrefOf = (index: number) => `/saes/${saeId}/neurons/${index}${query && `?${query}`}`;
  const keepPlace = useCallback(
    (row: number) =>
      setAddress(
        (before) => {
          const next = new URLSearchParams(before);
          if (row > 0) next.set("row", String(row));
          else next.delete("row");
          return next;
        },
        { replace: true },
      ),
    [setAddress],
  );
  return (
    <Card
      title="Neurons"
      aside={
        <span className="row">
          <RandomButton random={random} />
          <span className="muted" role="status">
            {pages.count === null ? "Searching…" : `${whole(pages.count)} listed`}
          </span>
        </span>
      }
    >
      <Filters list={list} onChange={onChange} hasFigures={hasFigures} />
      <NeuronTable
        label="Neurons"
        pages={pages}
        listKey={query}
        startAt={Number(address.get("row")) || 0}
        onPlace={keepPlace}
        head={
          <NeuronHead
            order={asked.order}
            hasFigures={hasFigures}
            onOrder={(order) => onChange({ ...list, order })}
          />
        }
        row={(neuron) => <NeuronRow neuron={neuron} href={hrefOf(neuron.index)} />}
        empty={{ text: "No neuron is like that.", href: `/saes/${saeId}`, label: "Show all neurons" }}
      />
    </Card>
  );
}
