import { Link } from "wouter";
import { type Column, DataTable } from "../../components/DataTable";
import { Empty } from "../../components/Empty";
import { NumberText } from "../../components/NumberText";
import { compact, whole } from "../../components/numbers";
import { plain } from "../../components/words";
import type { HomePageQuery } from "./HomePage.generated";

type Model = HomePageQuery["languageModels"][number];

const COLUMNS: readonly Column<Model>[] = [
  {
    key: "name",
    title: "Model",
    cell: (model) => <Link href={`/models/${model.id}`}>{model.name}</Link>,
  },
  { key: "architecture", title: "Architecture", cell: (model) => model.architecture ?? "–" },
  { key: "status", title: "Status", cell: (model) => plain(model.status) },
  {
    key: "parameters",
    title: "Parameters",
    numeric: true,
    cell: (model) => <NumberText value={model.parameterCount} format={compact} />,
  },
  {
    key: "width",
    title: "Width",
    numeric: true,
    cell: (model) => <NumberText value={model.hiddenSize} format={whole} />,
  },
];

export function ModelTable({ rows }: { rows: readonly Model[] | undefined }) {
  return (
    <DataTable
      caption="Language models"
      columns={COLUMNS}
      rows={rows}
      rowKey={(model) => model.id}
      empty={<Empty next={{ href: "/start", label: "Add one" }}>There is no language model yet.</Empty>}
    />
  );
}
