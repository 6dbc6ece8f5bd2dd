import { Link } from "wouter";
import { type Column, DataTable } from "../../components/DataTable";
import { Empty } from "../../components/Empty";
import { NumberText } from "../../components/NumberText";
import { bytes, compact } from "../../components/numbers";
import { Time } from "../../components/Time";
import { plain } from "../../components/words";
import type { HomePageQuery } from "./HomePage.generated";

type Run = HomePageQuery["activationRuns"]["nodes"][number];

const COLUMNS: readonly Column<Run>[] = [
  { key: "name", title: "Run", cell: (run) => <Link href={`/runs/${run.id}`}>{run.name}</Link> },
  { key: "model", title: "Model", cell: (run) => run.languageModel.name },
  { key: "status", title: "Status", cell: (run) => plain(run.status) },
  {
    key: "tokens",
    title: "Tokens",
    numeric: true,
    cell: (run) => <NumberText value={run.tokenCount} format={compact} />,
  },
  {
    key: "size",
    title: "Size",
    numeric: true,
    cell: (run) => <NumberText value={run.byteSize} format={bytes} />,
  },
  { key: "created", title: "Made", cell: (run) => <Time at={run.createdAt} /> },
];

export function RunTable({ rows }: { rows: readonly Run[] | undefined }) {
  return (
    <DataTable
      caption="Activation runs"
      columns={COLUMNS}
      rows={rows}
      rowKey={(run) => run.id}
      empty={<Empty next={{ href: "/capture", label: "Capture some" }}>There are no activations yet.</Empty>}
    />
  );
}
