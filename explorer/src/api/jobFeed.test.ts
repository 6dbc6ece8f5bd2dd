import { expect, test } from "vitest";
import type { JobFeedSubscription, JobFeedSubscriptionVariables } from "./JobFeed.generated";
import { followJob, type JobEvent, type JobFeed, MAX_LOG_LINES, withEvent, withSnapshot } from "./jobFeed";
import type { Sink, Subscribe } from "./socket";

function job(status = "RUNNING"): JobFeed["job"] {
  return { id: "job_1", status } as JobFeed["job"];
}

function logged(sequence: number, message = `line ${sequence}`): JobEvent {
  return { __typename: "JobLogged", sequence, at: "2026-01-01T00:00:00Z", message, job: job() };
}

function changed(sequence: number, status: string): JobEvent {
  return { __typename: "JobStatusChanged", sequence, at: "", job: job(status) };
}

function line(sequence: number) {
  return { sequence, at: "", message: `line ${sequence}` };
}

const fresh: JobFeed = { job: job(), sequence: 0, log: [] };

/** A server with a history, whose connection can be cut: it sends what comes after the cursor, as the API does. */
function server(history: JobEvent[]) {
  const cursors: number[] = [];
  let connect = () => {};
  const subscribe: Subscribe<JobFeedSubscription, JobFeedSubscriptionVariables> = (
    variables,
    sink: Sink<JobFeedSubscription>,
  ) => {
    connect = () => {
      const { after } = variables();
      cursors.push(after);
      for (const event of history) if (event.sequence > after) sink.next({ jobProgress: event });
    };
    connect();
    return () => {};
  };
  return { subscribe, cursors, reconnect: () => connect() };
}

test("each event is taken once across reconnects, from the last one on", () => {
  const history = [logged(1), logged(2)];
  const { subscribe, cursors, reconnect } = server(history);
  let feed = fresh;
  followJob(
    subscribe,
    "job_1",
    () => feed,
    (next) => {
      feed = next;
    },
  );
  history.push(logged(3));
  reconnect();
  history.push(changed(4, "INTERRUPTED"));
  reconnect();
  reconnect();
  expect(cursors).toEqual([0, 2, 3, 4]);
  expect(feed.log.map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
  expect(feed.job.status).toBe("INTERRUPTED");
});

test("an event that comes twice changes nothing", () => {
  const feed = withEvent(fresh, logged(1));
  expect(withEvent(feed, logged(1, "again"))).toBe(feed);
});

test("lines of a query and of events are put in order, each once", () => {
  const followed = withEvent(withEvent({ ...fresh, sequence: 3 }, logged(4)), logged(5));
  const feed = withSnapshot(followed, { job: job(), lastSequence: 4, log: [line(2), line(3), line(4)] });
  expect(feed.log.map(({ sequence }) => sequence)).toEqual([2, 3, 4, 5]);
});

test("a query's line beyond the cursor does not come again with its event", () => {
  const feed = withSnapshot(null, { job: job(), lastSequence: 1, log: [line(1), line(2)] });
  expect(withEvent(feed, logged(2)).log.map(({ sequence }) => sequence)).toEqual([1, 2]);
});

test("a query that is newer than the events tells the state, an older one does not", () => {
  const feed = withEvent(fresh, changed(5, "CANCELING"));
  const older = withSnapshot(feed, { job: job("RUNNING"), lastSequence: 4, log: [] });
  expect(older.job.status).toBe("CANCELING");
  const newer = withSnapshot(feed, { job: job("CANCELED"), lastSequence: 6, log: [] });
  expect(newer.job.status).toBe("CANCELED");
  expect(newer.sequence).toBe(5);
});

test("a long log keeps its newest lines", () => {
  let feed = fresh;
  for (let sequence = 1; sequence <= MAX_LOG_LINES + 5; sequence += 1)
    feed = withEvent(feed, logged(sequence));
  expect(feed.log).toHaveLength(MAX_LOG_LINES);
  expect(feed.log.at(-1)?.sequence).toBe(MAX_LOG_LINES + 5);
});
