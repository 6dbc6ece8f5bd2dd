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

interface Told {
  /** On this connection. */
  now: LiveJobs;
  /** With what earlier connections told last of others: truer than an older query, until it is asked again. */
  ever: LiveJobs;
}

const NOTHING: Told = { now: new Map(), ever: new Map() };

/** Adds a job as it is now. */
export function toldOf({ now, ever }: Told, job: Shared_JobFragment): Told {
  return { now: withJob(now, job), ever: withJob(ever, job) };
}

/** Begins a connection, which tells of all unfinished jobs: one that it does not tell of has ended meanwhile. */
export function reconnected({ ever }: Told): Told {
  return { now: new Map(), ever };
}

const told = createStore(NOTHING);
const subscribe = subscriber(LiveJobsSubscriptionDocument);

/** Follows all jobs while the page is open. Returns how to stop. */
export function followJobs(): () => void {
  let { epoch } = connection.get();
  const unwatch = connection.subscribe(() => {
    if (connection.get().epoch === epoch) return;
    epoch = connection.get().epoch;
    told.set(reconnected(told.get()));
  });
  const stop = subscribe(() => ({}), { next: ({ jobs: job }) => told.set(toldOf(told.get(), job)) });
  return () => {
    unwatch();
    stop();
  };
}

/** The jobs that have changed on this connection, and all unfinished ones, by ID. */
export function useLiveJobs(): LiveJobs {
  return useStore(told).now;
}

/** The same with the last that is known of others, to be held against a query's answer by laterOf. */
export function useKnownJobs(): LiveJobs {
  return useStore(told).ever;
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
