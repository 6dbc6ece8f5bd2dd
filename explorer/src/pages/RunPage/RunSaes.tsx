import { Link } from "wouter";
import { type Column, DataTable } from "../../components/DataTable";
import { Empty } from "../../components/Empty";
import { LayerName } from "../../components/LayerName";
import { NumberText } from "../../components/NumberText";
import { whole } from "../../components/numbers";
import { plain } from "../../components/words";
import type { RunPageQuery } from "./RunPage.generated";

type Sae = NonNullable<RunPageQuery["activationRun"]>["saes"]["nodes"][number];

const COLUMNS: readonly Column<Sae>[] = [
  { key: "name", title: "SAE", cell: (sae) => <Link href={`/saes/${sae.id}`}>{sae.name}</Link> },
  { key: "status", title: "Status", cell: (sae) => plain(sae.status) },
  { key: "class", title: "Class", cell: (sae) => sae.saeClass ?? "–" },
  { key: "layer", title: "Layer", cell: (sae) => <LayerName name={sae.layer} /> },
  {
    key: "neurons",
    title: "Neurons",
    numeric: true,
    cell: (sae) => <NumberText value={sae.latentCount} format={whole} />,
  },
];

export function RunSaes({ rows, runId }: { rows: readonly Sae[]; runId: string }) {
  const ids = rows.map(({ id }) => ["sae", id]);
  return (
    <>
      <DataTable
        caption="SAEs trained on it"
        columns={COLUMNS}
        rows={rows}
        rowKey={({ id }) => id}
        empty={
          <Empty next={{ href: `/train?run=${runId}`, label: "Train one" }}>
            No SAE is trained on it yet.
          </Empty>
        }
      />
      {rows.length > 1 && (
        <p>
          <Link href={`/compare?${new URLSearchParams(ids.slice(0, 20))}`}>Compare them</Link>
        </p>
      )}
    </>
  );
}
