import { Link, useSearchParams } from "wouter";
import { useData } from "../../api/hooks";
import { Card } from "../../components/Card";
import { Tabs } from "../../components/Tabs";
import { useIdle } from "../SaePage/useIdle";
import type { NeuronShown } from "./Neuron";
import { type NeuronPage_RelatedFragment, NeuronPageRelatedQueryDocument } from "./NeuronPage.generated";
import styles from "./Related.module.css";
import { RelatedRow } from "./RelatedRow";
import { Renew } from "./Renew";
import { indicesOf, type RelatedNeuron, relatedOf } from "./related";

interface RelatedProps {
  neuron: NeuronShown;
  saeId: string;
  onTake: (text: string) => void;
}

/** Neurons that do alike, and those that fire at the same time. */
export function Related({ neuron, saeId, onTake }: RelatedProps) {
  const [address, setAddress] = useSearchParams();
  const selected = address.get("related") === "correlated" ? "correlated" : "similar";
  const onSelect = (key: string) =>
    setAddress(
      (before) => {
        const next = new URLSearchParams(before);
        if (key === "similar") next.delete("related");
        else next.set("related", key);
        return next;
      },
      { replace: true },
    );
  const { similar, correlated } = relatedOf(neuron);
  const indices = indicesOf(neuron);
  // Names are there at once; what tells the others apart is not what people came for.
  const isIdle = useIdle();
  const { data } = useData(
    NeuronPageRelatedQueryDocument,
    { saeId, indices },
    { pause: !isIdle || indices.length === 0, policy: "cache-first" },
  );
  const about = new Map(data?.sae?.neurons.nodes.map((one) => [one.index, one]));
  const panel = (rows: readonly RelatedNeuron[] | undefined, what: string, none: string) => (
    <Neurons {...{ rows, saeId, what, none, about, onTake }} />
  );
  return (
    <Card title="Related neurons">
      <Tabs
        label="Related neurons"
        selected={selected}
        onSelect={onSelect}
        tabs={[
          {
            key: "similar",
            title: "Similar direction",
            panel: panel(similar, "cosine", "Its direction is zero: nothing is like it."),
          },
          {
            key: "correlated",
            title: "Fire together",
            panel: panel(correlated, "correlation", "None fires together with it."),
          },
        ]}
      />
    </Card>
  );
}

interface NeuronsProps {
  rows: readonly RelatedNeuron[] | undefined;
  saeId: string;
  what: string;
  none: string;
  onTake: (text: string) => void;
  about: ReadonlyMap<number, NeuronPage_RelatedFragment>;
}

function Neurons({ rows, saeId, what, none, about, onTake }: NeuronsProps) {
  if (!rows) return <Renew saeId={saeId}>An earlier version made the index, without these.</Renew>;
  if (rows.length === 0) return <p className="muted">{none}</p>;
  return (
    <ol className={styles.list}>
      {rows.map((row) => (
        <RelatedRow
          key={row.neuron.id}
          {...row}
          {...{ saeId, what, onTake }}
          about={about.get(row.neuron.index)}
        />
      ))}
      <li className="muted">
        The number is the {what}.{" "}
        <Link href={`/saes/${saeId}?ids=${rows.map(({ neuron }) => neuron.index).join("+")}`}>List them</Link>
      </li>
    </ol>
  );
}
