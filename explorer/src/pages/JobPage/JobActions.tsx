import { useLocation } from "wouter";
import { useAction } from "../../api/hooks";
import { isFinished } from "../../api/jobFeed";
import type { Shared_JobFragment } from "../../api/Shared.generated";
import { ErrorBox } from "../../components/ErrorBox";
import { JobPageCancelMutationDocument, JobPageRetryMutationDocument } from "./JobPage.generated";

/** Cancel what goes on, retry what has not succeeded. */
export function JobActions({ job }: { job: Shared_JobFragment }) {
  const [, navigate] = useLocation();
  const cancel = useAction(JobPageCancelMutationDocument);
  const retry = useAction(JobPageRetryMutationDocument);
  const problem = cancel.problem ?? retry.problem;

  const onRetry = async () => {
    const launched = await retry.run({ id: job.id });
    if (launched?.__typename === "JobLaunched" && launched.job.id !== job.id)
      navigate(`/jobs/${launched.job.id}`);
  };
  return (
    <>
      {!isFinished(job) && (
        <button
          type="button"
          disabled={cancel.running || job.status === "CANCELING"}
          onClick={() => cancel.run({ id: job.id })}
        >
          Cancel
        </button>
      )}
      {isFinished(job) && job.status !== "SUCCEEDED" && (
        <button type="button" className="primary" disabled={retry.running} onClick={onRetry}>
          Retry
        </button>
      )}
      {problem && <ErrorBox problem={problem} />}
    </>
  );
}
