import type { ReactNode } from "react";
import { Link } from "wouter";
import { type Answer, useAction } from "../../api/hooks";
import { ConfirmButton } from "../../components/ConfirmButton";
import { type Column, DataTable } from "../../components/DataTable";
import { NumberText } from "../../components/NumberText";
import { bytes, whole } from "../../components/numbers";
import { RenameButton } from "../../components/RenameButton";
import { Time } from "../../components/Time";
import { plain } from "../../components/words";
import {
  type DatasetsPage_DatasetFragment,
  DatasetsPageDeleteMutationDocument,
} from "./DatasetsPage.generated";

type Dataset = DatasetsPage_DatasetFragment;

interface DatasetTableProps {
  rows: readonly Dataset[] | undefined;
  uses: ReadonlyMap<string, readonly { id: string; name: string }[]>;
  answer: Pick<Answer<unknown>, "problem" | "reload">;
  empty: ReactNode;
  onShow: (id: string) => void;
  onDeleted: (id: string) => void;
}

export function DatasetTable({ rows, uses, answer, empty, onShow, onDeleted }: DatasetTableProps) {
  const columns: Column<Dataset>[] = [
    {
      key: "name",
      title: "Dataset",
      cell: (dataset) => <Link href={`/datasets?dataset=${dataset.id}`}>{dataset.name}</Link>,
    },
    { key: "status", title: "Status", cell: ({ status }) => plain(status) },
    {
      key: "texts",
      title: "Texts",
      numeric: true,
      cell: ({ sampleCount }) => <NumberText value={sampleCount} format={whole} />,
    },
    {
      key: "skipped",
      title: "Left out",
      numeric: true,
      cell: ({ skippedRowCount }) => <NumberText value={skippedRowCount} format={whole} />,
    },
    { key: "column", title: "Column", cell: ({ textField }) => textField ?? "a text a line" },
    {
      key: "size",
      title: "Size",
      numeric: true,
      cell: ({ byteSize }) => <NumberText value={byteSize} format={bytes} />,
    },
    { key: "made", title: "Uploaded", cell: ({ createdAt }) => <Time at={createdAt} /> },
    { key: "uses", title: "Used in", cell: ({ id }) => <Uses runs={uses.get(id) ?? []} /> },
    {
      key: "actions",
      title: "Actions",
      cell: (dataset) => (
        <span className="row">
          <Link href={`/capture?data=${dataset.id}`} className="button">
            Capture
          </Link>
          <button type="button" onClick={() => onShow(dataset.id)} aria-label={`Texts of ${dataset.name}`}>
            Texts
          </button>
          <RenameButton id={dataset.id} name={dataset.name} />
          <DeleteDataset dataset={dataset} onDeleted={onDeleted} />
        </span>
      ),
    },
  ];
  return (
    <DataTable
      caption="Stored datasets"
      columns={columns}
      rows={rows}
      rowKey={({ id }) => id}
      answer={answer}
      empty={empty}
    />
  );
}

function Uses({ runs }: { runs: readonly { id: string; name: string }[] }) {
  if (runs.length === 0) return <span className="muted">–</span>;
  return runs.map(({ id, name }, index) => (
    <span key={id}>
      {index > 0 && ", "}
      <Link href={`/runs/${id}`}>{name}</Link>
    </span>
  ));
}

function DeleteDataset({ dataset, onDeleted }: { dataset: Dataset; onDeleted: (id: string) => void }) {
  const { run, problem, running } = useAction(DatasetsPageDeleteMutationDocument);
  const onConfirm = async () => {
    const isDone = (await run({ id: dataset.id })) !== null;
    if (isDone) onDeleted(dataset.id);
    return isDone;
  };
  return (
    <ConfirmButton
      label="Delete"
      question={`Delete ${dataset.name}?`}
      onConfirm={onConfirm}
      problem={problem}
      running={running}
    >
      <p>
        Its {whole(dataset.sampleCount)} texts go. What was captured from them keeps its own copy, but new
        captures and evaluations cannot use them.
      </p>
    </ConfirmButton>
  );
}
