import { Link } from "wouter";
import { type Column, DataTable, type Sort } from "../../components/DataTable";
import { Empty } from "../../components/Empty";
import { LayerName } from "../../components/LayerName";
import { NumberText } from "../../components/NumberText";
import { percent, whole } from "../../components/numbers";
import { Time } from "../../components/Time";
import { plain } from "../../components/words";
import type { SaeRow } from "./saeRows";

const COLUMNS: readonly Column<SaeRow>[] = [
  {
    key: "name",
    title: "SAE",
    sortable: true,
    cell: (sae) => (
      <>
        <Link href={`/saes/${sae.id}`}>{sae.name}</Link>{" "}
        {sae.status !== "READY" && <span className="muted">{plain(sae.status)}</span>}
      </>
    ),
  },
  {
    key: "model",
    title: "Model",
    cell: (sae) => sae.languageModel.name,
  },
  {
    key: "layer",
    title: "Layer",
    sortable: true,
    cell: (sae) => <LayerName name={sae.layer} />,
  },
  { key: "class", title: "Class", cell: (sae) => sae.saeClass ?? "–" },
  {
    key: "neurons",
    title: "Neurons",
    numeric: true,
    sortable: true,
    cell: (sae) => <NumberText value={sae.latentCount} format={whole} />,
  },
  {
    key: "variance",
    title: "Variance explained",
    sortable: true,
    numeric: true,
    cell: (sae) => <NumberText value={sae.evaluation?.explainedVariance} format={percent} />,
  },
  {
    key: "l0",
    title: "L0",
    numeric: true,
    sortable: true,
    cell: (sae) => <NumberText value={sae.evaluation?.l0} />,
  },
  {
    key: "loss",
    title: "CE loss recovered",
    numeric: true,
    cell: (sae) => <NumberText value={sae.evaluation?.ceLossRecovered} format={percent} />,
  },
  {
    key: "dead",
    title: "Dead",
    numeric: true,
    cell: (sae) => <NumberText value={sae.neuronIndex?.deadCount} format={whole} />,
  },
  { key: "created", title: "Made", cell: (sae) => <Time at={sae.createdAt} /> },
];

interface SaeTableProps {
  rows: readonly SaeRow[] | undefined;
  sort?: Sort;
  onSort: (sort: Sort) => void;
}

export function SaeTable({ rows, sort, onSort }: SaeTableProps) {
  return (
    <DataTable
      caption="SAEs"
      columns={COLUMNS}
      rows={rows}
      {...(sort && { sort })}
      onSort={onSort}
      rowKey={(sae) => sae.id}
      empty={<Empty next={{ href: "/start", label: "Make a first SAE" }}>There is no SAE yet.</Empty>}
    />
  );
}
