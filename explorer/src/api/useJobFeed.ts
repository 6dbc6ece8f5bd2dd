import { useEffect, useRef, useState } from "react";
import { JobFeedSubscriptionDocument } from "./JobFeed.generated";
import { followJob, isFinished, type JobFeed, type LogLine, withSnapshot } from "./jobFeed";
import type { Shared_JobFragment } from "./Shared.generated";
import { subscriber } from "./socket";

const subscribe = subscriber(JobFeedSubscriptionDocument);

type Snapshot = Shared_JobFragment & { lastSequence: number; log: readonly LogLine[] };

/** Follows a job from what a query found of it; a retry of a finished job is followed again. */
export function useJobFeed(job: Snapshot | null | undefined): JobFeed | null {
  const [feed, setFeed] = useState<JobFeed | null>(null);
  const newest = useRef<JobFeed | null>(null);
  useEffect(() => {
    if (!job) return;
    const known = newest.current?.job.id === job.id ? newest.current : null;
    newest.current = withSnapshot(known, { job, lastSequence: job.lastSequence, log: job.log });
    setFeed(newest.current);
  }, [job]);
  const id = job?.id;
  // The subscription completes when the job has ended, so that each attempt has one of its own.
  const attempt = job && !isFinished(job) ? job.attempt : null;
  useEffect(() => {
    if (!id || attempt === null) return;
    return followJob(
      subscribe,
      id,
      () => newest.current as JobFeed,
      (next) => {
        newest.current = next;
        setFeed(next);
      },
    );
  }, [id, attempt]);
  return feed?.job.id === id ? feed : null;
}
