import { isFinished } from "./jobFeed";
import { LiveJobsSubscriptionDocument } from "./LiveJobs.generated";
import type { Shared_JobFragment } from "./Shared.generated";
import { connection, subscriber } from "./socket";
import { createStore, useStore } from "./store";

export type LiveJobs = ReadonlyMap<string, Shared_JobFragment>;

/** Finished jobs that are kept, so that lists show how they ended. */
const MAX_FINISHED = 100;

/** Adds a job as it is now; the oldest finished ones make room. */
export function withJob(jobs: LiveJobs, job: Shared_JobFragment): LiveJobs {
  const next = new Map(jobs);
  next.delete(job.id);
  next.set(job.id, job);
  const finished = [...next.values()].filter(isFinished);
  for (const { id } of finished.slice(0, Math.max(0, finished.length - MAX_FINISHED))) next.delete(id);
  return next;
}

const liveJobs = createStore<LiveJobs>(new Map());
const subscribe = subscriber(LiveJobsSubscriptionDocument);

/** Follows all jobs while the page is open. Returns how to stop. */
export function followJobs(): () => void {
  let epoch = 0;
  return subscribe(() => ({}), {
    next: ({ jobs: job }) => {
      // Each connection begins with all unfinished jobs: one that is not told of has ended meanwhile.
      const isNew = connection.get().epoch !== epoch;
      epoch = connection.get().epoch;
      liveJobs.set(withJob(isNew ? new Map() : liveJobs.get(), job));
    },
  });
}

/** The jobs that have changed since the page was loaded, and all unfinished ones, by ID. */
export function useLiveJobs(): LiveJobs {
  const jobs = useStore(liveJobs);
  const { state } = useStore(connection);
  return state === "connected" ? jobs : NONE_KNOWN;
}

const NONE_KNOWN: LiveJobs = new Map();
