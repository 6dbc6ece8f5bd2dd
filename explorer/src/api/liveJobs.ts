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
  let { epoch } = connection.get();
  const unwatch = connection.subscribe(() => {
    if (connection.get().epoch === epoch) return;
    // Each connection begins with all unfinished jobs: one that is not told of has ended meanwhile.
    epoch = connection.get().epoch;
    liveJobs.set(new Map());
  });
  const stop = subscribe(() => ({}), {
    next: ({ jobs: job }) => liveJobs.set(withJob(liveJobs.get(), job)),
  });
  return () => {
    unwatch();
    stop();
  };
}

/** The jobs that have changed on this connection, and all unfinished ones, by ID. */
export function useLiveJobs(): LiveJobs {
  return useStore(liveJobs);
}

/** Returns the later of two states of a job, one from a query and one as it was told live. */
export function laterOf(
  queried: Shared_JobFragment,
  live: Shared_JobFragment | undefined,
): Shared_JobFragment {
  if (!live || queried.attempt !== live.attempt)
    return live && live.attempt > queried.attempt ? live : queried;
  return isFinished(queried) ? queried : live;
}
