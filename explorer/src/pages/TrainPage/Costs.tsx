import { type Column, DataTable } from "../../components/DataTable";
import { ErrorBox } from "../../components/ErrorBox";
import { NumberText } from "../../components/NumberText";
import { bytes, compact, whole } from "../../components/numbers";
import type { TrainPage_ValidatedFragment } from "./TrainPage.generated";
import type { Validated } from "./useValidated";

const COLUMNS: readonly Column<TrainPage_ValidatedFragment>[] = [
  {
    key: "neurons",
    title: "Neurons",
    cell: (found) => (
      <>
        {whole(found.latentCount)}{" "}
        <span className="muted">
          ({compact(Math.round((found.latentCount / found.inputSize) * 10) / 10)} × width)
        </span>
      </>
    ),
  },
  { key: "k", title: "k", numeric: true, cell: (found) => <NumberText value={found.k} format={whole} /> },
  {
    key: "rate",
    title: "Learning rate",
    numeric: true,
    cell: (found) => <NumberText value={found.learningRate} />,
  },
  {
    key: "l1",
    title: "L1 coefficient",
    numeric: true,
    cell: (found) => <NumberText value={found.l1Lambda} />,
  },
  {
    key: "steps",
    title: "Steps",
    numeric: true,
    cell: (found) => <NumberText value={found.stepCount} format={whole} />,
  },
  {
    key: "size",
    title: "On disk",
    numeric: true,
    cell: (found) => <NumberText value={found.byteSize} format={bytes} />,
  },
  { key: "device", title: "Computed on", cell: (found) => found.device },
];

/** What the server would choose, and what it would cost. */
export function Costs({ validated }: { validated: Validated | null }) {
  if (!validated) return <p className="muted">Asking the server what it would choose…</p>;
  const rows = validated.found.flatMap((one) => one ?? []);
  return (
    <>
      {validated.problem && <ErrorBox problem={validated.problem} />}
      {rows.length > 0 && (
        <DataTable
          caption="What would be trained"
          columns={COLUMNS}
          rows={rows}
          rowKey={({ latentCount, k }) => `${latentCount} ${k}`}
          empty={null}
        />
      )}
    </>
  );
}
