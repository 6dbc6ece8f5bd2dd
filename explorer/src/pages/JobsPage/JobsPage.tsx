import { Link, useSearchParams } from "wouter";
import { useData } from "../../api/hooks";
import { laterOf, useKnownJobs } from "../../api/liveJobs";
import { Card } from "../../components/Card";
import { Select } from "../../components/controls";
import { Empty } from "../../components/Empty";
import { whole } from "../../components/numbers";
import { PageHeading } from "../../components/PageHeading";
import { jobKind, jobStatus } from "../../components/words";
import type { JobKind, JobStatus } from "../../generated/types";
import { JobsPageQueryDocument } from "./JobsPage.generated";
import { JobTable } from "./JobTable";

const STATUSES: readonly JobStatus[] = [
  "QUEUED",
  "RUNNING",
  "CANCELING",
  "SUCCEEDED",
  "FAILED",
  "CANCELED",
  "INTERRUPTED",
];
const KINDS: readonly JobKind[] = [
  "LOAD_LANGUAGE_MODEL",
  "CAPTURE_ACTIVATIONS",
  "TRAIN_SAE",
  "INDEX_NEURONS",
  "EVALUATE_SAE",
  "IMPORT_SAE",
  "EXPORT_SAE",
];
const ANY = { value: "", label: "Any" } as const;

/** All jobs, newest first. The filters are in the address. */
export default function JobsPage() {
  const [search, setSearch] = useSearchParams();
  const status = STATUSES.find((one) => one === search.get("status"));
  const kind = KINDS.find((one) => one === search.get("kind"));
  const after = search.get("after");
  const live = useKnownJobs();
  const answer = useData(JobsPageQueryDocument, {
    status: status ? [status] : null,
    kind: kind ? [kind] : null,
    artifactId: search.get("artifact"),
    after,
  });
  const jobs = answer.data?.jobs;
  const rows = jobs?.nodes
    .map((job) => laterOf(job, live.get(job.id)))
    .filter((job) => !status || job.status === status);
  const isFiltered = Boolean(status || kind || after || search.get("artifact"));

  const filter = (name: string, value: string) =>
    setSearch((before) => {
      const next = new URLSearchParams(before);
      next.delete("after");
      if (value) next.set(name, value);
      else next.delete(name);
      return next;
    });
  const olderThan = (cursor: string) =>
    `/jobs?${new URLSearchParams({ ...Object.fromEntries(search), after: cursor })}`;

  return (
    <>
      <PageHeading title="Jobs" />
      <div className="row">
        <Select
          label="Status"
          value={status ?? ""}
          options={[ANY, ...STATUSES.map((value) => ({ value, label: jobStatus(value) }))]}
          onChange={(value) => filter("status", value)}
        />
        <Select
          label="Kind"
          value={kind ?? ""}
          options={[ANY, ...KINDS.map((value) => ({ value, label: jobKind(value) }))]}
          onChange={(value) => filter("kind", value)}
        />
      </div>
      <Card
        title="Newest first"
        aside={jobs && <span className="muted">{whole(jobs.totalCount)} in all</span>}
      >
        <JobTable
          rows={rows}
          answer={answer}
          empty={
            isFiltered ? (
              <Empty next={{ href: "/jobs", label: "Show all jobs" }}>No job is like that.</Empty>
            ) : (
              <Empty next={{ href: "/start", label: "Make a first SAE" }}>There has been no job yet.</Empty>
            )
          }
        />
        <div className="row">
          {after && <Link href="/jobs">Newest</Link>}
          {jobs?.pageInfo.hasNextPage && jobs.pageInfo.endCursor && (
            <Link href={olderThan(jobs.pageInfo.endCursor)}>Older</Link>
          )}
        </div>
      </Card>
    </>
  );
}
