import { Link, useSearchParams } from "wouter";
import type { Shared_NeuronNameFragment } from "../../api/Shared.generated";
import { Card } from "../../components/Card";
import { precise } from "../../components/numbers";
import { Tabs } from "../../components/Tabs";
import type { NeuronShown } from "./Neuron";
import styles from "./Related.module.css";
import { Renew } from "./Renew";

/** Neurons that do alike, and those that fire at the same time. */
export function Related({ neuron, saeId }: { neuron: NeuronShown; saeId: string }) {
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
  const similar = neuron.similarNeurons?.map((one) => ({ neuron: one.neuron, value: one.cosine }));
  const correlated = neuron.correlatedNeurons?.map((one) => ({ neuron: one.neuron, value: one.correlation }));
  const panel = (rows: readonly Row[] | undefined, what: string, none: string) => (
    <Neurons rows={rows} saeId={saeId} what={what} none={none} />
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

interface Row {
  neuron: Shared_NeuronNameFragment;
  value: number;
}

interface NeuronsProps {
  rows: readonly Row[] | undefined;
  saeId: string;
  what: string;
  none: string;
}

function Neurons({ rows, saeId, what, none }: NeuronsProps) {
  if (!rows) return <Renew saeId={saeId}>An earlier version made the index, without these.</Renew>;
  if (rows.length === 0) return <p className="muted">{none}</p>;
  return (
    <ol className={styles.list}>
      {rows.map(({ neuron, value }) => (
        <li key={neuron.id} className={styles.row}>
          <Link href={`/saes/${saeId}/neurons/${neuron.index}`}>#{neuron.index}</Link>
          <span className={styles.name}>
            {neuron.concept?.name ?? <span className="muted">no name</span>}
          </span>
          <span title={what}>{precise(Number(value.toPrecision(3)))}</span>
        </li>
      ))}
      <li className="muted">
        The number is the {what}.{" "}
        <Link href={`/saes/${saeId}?ids=${rows.map(({ neuron }) => neuron.index).join("+")}`}>List them</Link>
      </li>
    </ol>
  );
}
