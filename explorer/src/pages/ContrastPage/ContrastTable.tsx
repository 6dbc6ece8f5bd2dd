import { type CSSProperties, useState } from "react";
import { type Column, DataTable } from "../../components/DataTable";
import { Empty } from "../../components/Empty";
import { NumberText } from "../../components/NumberText";
import { NeuronLink } from "../PlayPage/NeuronLink";
import type { ContrastPage_ResultFragment } from "./ContrastPage.generated";
import styles from "./ContrastPage.module.css";

export type Contrasted = Extract<
  ContrastPage_ResultFragment,
  { __typename: "ContrastedNeurons" }
>["neurons"][number];

interface ContrastTableProps {
  saeId: string;
  /** The set on which they fire more. */
  set: "A" | "B";
  rows: readonly Contrasted[];
  /** The largest difference of both tables. */
  max: number;
  chosen: number | null;
  onChoose: (index: number) => void;
  steered: ReadonlySet<number>;
  onSteer: (index: number, isSteered: boolean) => void;
}

/** So that the texts below are within reach. */
const ROWS_AT_FIRST = 10;

/** The neurons that fire more on one set. */
export function ContrastTable(props: ContrastTableProps) {
  const { saeId, set, rows, max, chosen, onChoose, steered, onSteer } = props;
  const [isWhole, setWhole] = useState(false);
  const other = set === "A" ? "B" : "A";
  const columns: readonly Column<Contrasted>[] = [
    {
      key: "steer",
      title: "Steer",
      cell: ({ neuron: { index } }) => (
        <input
          type="checkbox"
          aria-label={`Steer by #${index}`}
          checked={steered.has(index)}
          onChange={(event) => onSteer(index, event.target.checked)}
        />
      ),
    },
    { key: "neuron", title: "Neuron", cell: ({ neuron }) => <NeuronLink saeId={saeId} neuron={neuron} /> },
    {
      key: "difference",
      title: "Difference",
      numeric: true,
      cell: ({ difference }) => (
        <span className={styles.bar} style={{ "--share": `${(100 * difference) / max}%` } as CSSProperties}>
          <NumberText value={difference} />
        </span>
      ),
    },
    {
      key: "own",
      title: `Mean on ${set}`,
      numeric: true,
      cell: ({ meanActivationA }) => <NumberText value={meanActivationA} />,
    },
    {
      key: "other",
      title: `Mean on ${other}`,
      numeric: true,
      cell: ({ meanActivationB }) => <NumberText value={meanActivationB} />,
    },
    {
      key: "where",
      title: "Texts",
      cell: ({ neuron: { index } }) => (
        <button
          type="button"
          className={styles.small}
          aria-pressed={index === chosen}
          aria-label={`Where #${index} fires`}
          onClick={() => onChoose(index)}
        >
          Where
        </button>
      ),
    },
  ];
  return (
    <div className={styles.table}>
      <DataTable
        caption={`Neurons that fire more on ${set}`}
        columns={columns}
        rows={isWhole ? rows : rows.slice(0, ROWS_AT_FIRST)}
        rowKey={({ neuron }) => neuron.id}
        empty={<Empty>No neuron fires more on these texts.</Empty>}
      />
      {!isWhole && rows.length > ROWS_AT_FIRST && (
        <button type="button" onClick={() => setWhole(true)}>
          Show all {rows.length}
        </button>
      )}
    </div>
  );
}
