import type { JobFeedSubscription, JobFeedSubscriptionVariables } from "./JobFeed.generated";
import type { Shared_JobFragment } from "./Shared.generated";
import type { Subscribe } from "./socket";

export type JobEvent = JobFeedSubscription["jobProgress"];

export interface LogLine {
  sequence: number;
  at: string;
  message: string;
}

/** What is known of a job, and up to which event. */
export interface JobFeed {
  job: Shared_JobFragment;
  /** Sequence number of the last event that is in here; a subscription goes on after it. */
  sequence: number;
  /** The newest lines, oldest first, each once. */
  log: readonly LogLine[];
}

/** More are on the server; a page that follows for hours must not grow. */
export const MAX_LOG_LINES = 1_000;

/** Adds what a query found, which may be older or newer than what events have told. */
export function withSnapshot(
  feed: JobFeed | null,
  found: { job: Shared_JobFragment; lastSequence: number; log: readonly LogLine[] },
): JobFeed {
  const job = feed && feed.sequence > found.lastSequence ? feed.job : found.job;
  const lines = new Map([...found.log, ...(feed?.log ?? [])].map((line) => [line.sequence, line]));
  const log = [...lines.values()].sort((a, b) => a.sequence - b.sequence).slice(-MAX_LOG_LINES);
  // Never beyond what was known before: the events between are still to come, and are skipped if known.
  return { job, log, sequence: feed?.sequence ?? found.lastSequence };
}

/** Adds an event; one that is known already changes nothing. */
export function withEvent(feed: JobFeed, event: JobEvent): JobFeed {
  if (event.sequence <= feed.sequence) return feed;
  const { sequence, job } = event;
  const isNewLine = event.__typename === "JobLogged" && !feed.log.some((line) => line.sequence === sequence);
  const log = isNewLine
    ? [...feed.log, { sequence, at: event.at, message: event.message }].slice(-MAX_LOG_LINES)
    : feed.log;
  return { job, sequence, log };
}

const FINISHED: readonly string[] = ["SUCCEEDED", "FAILED", "CANCELED", "INTERRUPTED"];

export function isFinished(job: { status: string }): boolean {
  return FINISHED.includes(job.status);
}

/** Follows a job from a feed on, across reconnects: each event is taken once. Returns how to stop. */
export function followJob(
  subscribe: Subscribe<JobFeedSubscription, JobFeedSubscriptionVariables>,
  id: string,
  current: () => JobFeed,
  update: (feed: JobFeed) => void,
): () => void {
  return subscribe(() => ({ id, after: current().sequence }), {
    next: ({ jobProgress }) => update(withEvent(current(), jobProgress)),
  });
}
