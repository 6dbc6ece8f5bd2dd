import { Link } from "wouter";
import { type Column, DataTable } from "../../components/DataTable";
import { Empty } from "../../components/Empty";
import { LayerName } from "../../components/LayerName";
import { NumberText } from "../../components/NumberText";
import { percent, whole } from "../../components/numbers";
import { Time } from "../../components/Time";
import { plain } from "../../components/words";
import type { HomePageQuery } from "./HomePage.generated";

type Sae = HomePageQuery["saes"]["nodes"][number];

const COLUMNS: readonly Column<Sae>[] = [
  { key: "name", title: "SAE", cell: (sae) => <Link href={`/saes/${sae.id}`}>{sae.name}</Link> },
  {
    key: "model",
    title: "Model, layer",
    cell: (sae) => (
      <>
        {sae.languageModel.name}, <LayerName name={sae.layer} />
      </>
    ),
  },
  { key: "class", title: "Class", cell: (sae) => sae.saeClass ?? "–" },
  { key: "status", title: "Status", cell: (sae) => plain(sae.status) },
  {
    key: "neurons",
    title: "Neurons",
    numeric: true,
    cell: (sae) => <NumberText value={sae.latentCount} format={whole} />,
  },
  {
    key: "variance",
    title: "Variance explained",
    numeric: true,
    cell: (sae) => <NumberText value={sae.evaluation?.explainedVariance} format={percent} />,
  },
  { key: "l0", title: "L0", numeric: true, cell: (sae) => <NumberText value={sae.evaluation?.l0} /> },
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

export function SaeTable({ rows }: { rows: readonly Sae[] | undefined }) {
  return (
    <DataTable
      caption="SAEs"
      columns={COLUMNS}
      rows={rows}
      rowKey={(sae) => sae.id}
      empty={<Empty next={{ href: "/start", label: "Make a first SAE" }}>There is no SAE yet.</Empty>}
    />
  );
}
