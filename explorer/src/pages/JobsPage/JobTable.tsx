import type { ReactNode } from "react";
import { Link } from "wouter";
import type { Answer } from "../../api/hooks";
import type { Shared_JobFragment } from "../../api/Shared.generated";
import { type Column, DataTable } from "../../components/DataTable";
import { JobProgress } from "../../components/JobProgress";
import { duration } from "../../components/numbers";
import { Time } from "../../components/Time";
import { jobKind } from "../../components/words";

interface JobTableProps {
  rows: readonly Shared_JobFragment[] | undefined;
  answer: Pick<Answer<unknown>, "problem" | "reload">;
  empty: ReactNode;
}

const COLUMNS: readonly Column<Shared_JobFragment>[] = [
  { key: "title", title: "Job", cell: (job) => <Link href={`/jobs/${job.id}`}>{job.title}</Link> },
  { key: "kind", title: "Kind", cell: (job) => jobKind(job.kind) },
  { key: "progress", title: "Progress", cell: (job) => <JobProgress job={job} /> },
  { key: "created", title: "Launched", cell: (job) => <Time at={job.createdAt} /> },
  { key: "took", title: "Took", cell: (job) => took(job), numeric: true },
];

function took({ startedAt, finishedAt }: Shared_JobFragment): string {
  if (!startedAt || !finishedAt) return "–";
  return duration((Date.parse(finishedAt) - Date.parse(startedAt)) / 1000);
}

export function JobTable({ rows, answer, empty }: JobTableProps) {
  return (
    <DataTable
      caption="Jobs"
      columns={COLUMNS}
      rows={rows}
      rowKey={(job) => job.id}
      answer={answer}
      empty={empty}
    />
  );
}
