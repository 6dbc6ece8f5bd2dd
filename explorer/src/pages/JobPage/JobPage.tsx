import { useParams } from "wouter";
import { useData } from "../../api/hooks";
import { useJobFeed } from "../../api/useJobFeed";
import { Card } from "../../components/Card";
import { Empty } from "../../components/Empty";
import { ErrorBox } from "../../components/ErrorBox";
import { JobProgress } from "../../components/JobProgress";
import { PageHeading } from "../../components/PageHeading";
import { Properties } from "../../components/Properties";
import { Time } from "../../components/Time";
import { jobKind } from "../../components/words";
import { JobActions } from "./JobActions";
import { JobCurves } from "./JobCurves";
import { JobLog } from "./JobLog";
import { JobPageQueryDocument } from "./JobPage.generated";
import { JobRequest } from "./JobRequest";
import { JobResult } from "./JobResult";

/** One job, live: what was asked, how far it is, its log, and what can be done about it. */
export default function JobPage() {
  const { id } = useParams<{ id: string }>();
  const answer = useData(JobPageQueryDocument, { id });
  const found = answer.data?.job;
  const feed = useJobFeed(found);

  if (!found || !feed) {
    const isMissing = answer.data?.job === null;
    return (
      <>
        <PageHeading title={isMissing ? "There is no such job" : "Job"} />
        {answer.problem && <ErrorBox problem={answer.problem} onRetry={answer.reload} />}
        {isMissing && <Empty next={{ href: "/jobs", label: "All jobs" }}>It may have been deleted.</Empty>}
        {!isMissing && !answer.problem && <p className="muted">Loading…</p>}
      </>
    );
  }
  const { job } = feed;
  return (
    <>
      <PageHeading title={job.title}>
        <JobActions job={job} />
      </PageHeading>
      {answer.problem && <ErrorBox problem={answer.problem} onRetry={answer.reload} />}
      <Card title="Progress">
        <JobProgress job={job} detailed />
        {job.stage && <p>{job.stage}</p>}
        {job.error && (
          <ErrorBox
            problem={{ title: "What went wrong", message: job.error, fields: [], retryAfter: null }}
          />
        )}
        <JobResult job={job} />
        <Properties
          of={[
            ["Kind", jobKind(job.kind)],
            ["Attempt", job.attempt],
            ["Launched", <Time key="launched" at={job.createdAt} />],
            ["Started", <Time key="started" at={job.startedAt} />],
            ["Finished", <Time key="finished" at={job.finishedAt} />],
          ]}
        />
      </Card>
      {found.request.__typename === "TrainRequest" && found.request.sae && (
        <JobCurves sae={found.request.sae} />
      )}
      <Card title="What was asked">
        <JobRequest request={found.request} />
      </Card>
      <JobLog lines={feed.log} removedThrough={found.eventsRemovedThrough} />
    </>
  );
}
