import { Link } from "wouter";
import { type Column, DataTable } from "../../components/DataTable";
import { NumberText } from "../../components/NumberText";
import { bytes, whole } from "../../components/numbers";
import type { ServerPage_StatusFragment } from "./ServerPage.generated";

type Worker = ServerPage_StatusFragment["workers"][number];

const COLUMNS: readonly Column<Worker>[] = [
  { key: "lanes", title: "For", cell: ({ lanes }) => lanes.map((lane) => lane.toLowerCase()).join(" and ") },
  {
    key: "device",
    title: "Process",
    cell: ({ isRunning, device, gpu }) =>
      isRunning ? `runs on ${device ?? "…"}${gpu === null ? "" : `, GPU ${gpu}`}` : "starts when needed",
  },
  { key: "busy", title: "Works on", cell: (worker) => <Work {...worker} /> },
  {
    key: "models",
    title: "Models in memory",
    cell: ({ languageModels }) => languageModels.map(({ name }) => name).join(", ") || "none",
  },
  {
    key: "memory",
    title: "Memory",
    numeric: true,
    cell: ({ memoryBytes }) => <NumberText value={memoryBytes} format={bytes} />,
  },
  {
    key: "accelerator",
    title: "Of accelerators",
    numeric: true,
    cell: ({ acceleratorMemoryBytes }) => <NumberText value={acceleratorMemoryBytes} format={bytes} />,
  },
];

export function WorkerTable({ workers }: { workers: readonly Worker[] }) {
  return (
    <DataTable
      caption="Workers"
      columns={COLUMNS}
      rows={workers}
      rowKey={(_, place) => String(place)}
      empty={<p className="muted">There is no worker.</p>}
    />
  );
}

function Work({ busyWith, interactiveRequests }: Worker) {
  if (busyWith.length === 0 && interactiveRequests === 0) return <span className="muted">nothing</span>;
  return (
    <>
      {busyWith.map(({ id, title }) => (
        <div key={id}>
          <Link href={`/jobs/${id}`}>{title}</Link>
        </div>
      ))}
      {interactiveRequests > 0 &&
        `${whole(interactiveRequests)} ${interactiveRequests === 1 ? "question" : "questions"}`}
    </>
  );
}
