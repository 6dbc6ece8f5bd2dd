import { useState } from "react";
import { Link } from "wouter";
import { useAction } from "../../api/hooks";
import { isFinished } from "../../api/jobFeed";
import { laterOf, useLiveJobs } from "../../api/liveJobs";
import type { Shared_JobFragment } from "../../api/Shared.generated";
import { ErrorBox } from "../../components/ErrorBox";
import { JobProgress } from "../../components/JobProgress";
import { SaePageIndexMutationDocument } from "./SaePage.generated";

interface LaunchIndexProps {
  saeId: string;
  label: string;
  /** Those of the SAE, as far as they are known. */
  jobs?: readonly Shared_JobFragment[];
}

/** Has the neurons indexed over the SAE's run, and shows how far that is. */
export function LaunchIndex({ saeId, label, jobs = [] }: LaunchIndexProps) {
  const live = useLiveJobs();
  const { run, running, problem } = useAction(SaePageIndexMutationDocument);
  const [launched, setLaunched] = useState<Shared_JobFragment | null>(null);
  const known = [...(launched ? [launched] : []), ...jobs.filter(({ kind }) => kind === "INDEX_NEURONS")];
  const job = known.map((one) => laterOf(one, live.get(one.id))).find((one) => !isFinished(one));
  const launch = async () => {
    const done = await run({ input: { saeId } });
    if (done?.__typename === "JobLaunched") setLaunched(done.job);
  };
  if (job) return <JobLine job={job} />;
  return (
    <>
      <p>
        <button type="button" disabled={running} onClick={launch}>
          {label}
        </button>
      </p>
      {problem && <ErrorBox problem={problem} />}
    </>
  );
}

/** A job that goes on, with the way to it. */
export function JobLine({ job }: { job: Shared_JobFragment }) {
  return (
    <div className="row">
      <Link href={`/jobs/${job.id}`}>{job.title}</Link>
      <JobProgress job={job} />
    </div>
  );
}
