import { Link } from "wouter";
import { laterOf, useLiveJobs } from "../../api/liveJobs";
import { Card } from "../../components/Card";
import { Empty } from "../../components/Empty";
import { JobProgress } from "../../components/JobProgress";
import type { RunPageQuery } from "./RunPage.generated";

type Run = NonNullable<RunPageQuery["activationRun"]>;

/** How far a run is that cannot be used yet. */
export function RunProgress({ status, job }: Pick<Run, "status" | "job">) {
  const live = useLiveJobs();
  if (!job) {
    return (
      <Empty next={{ href: "/capture", label: "Capture again" }}>
        It cannot be used, and its job is gone.
      </Empty>
    );
  }
  const now = laterOf(job, live.get(job.id));
  return (
    <Card title="Capture" aside={<Link href={`/jobs/${job.id}`}>The job</Link>}>
      <JobProgress job={now} detailed />
      {now.error && <p role="alert">{now.error}</p>}
      {status === "FAILED" && <p>Its job can be tried again.</p>}
    </Card>
  );
}
