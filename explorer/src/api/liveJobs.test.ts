import { expect, test, vi } from "vitest";

vi.mock("./socket", () => ({ connection: { get: () => ({}) }, subscriber: () => () => () => {} }));

import { laterOf, reconnected, toldOf, withJob } from "./liveJobs";
import type { Shared_JobFragment } from "./Shared.generated";

function job(id: string, status: string, attempt = 1): Shared_JobFragment {
  return { id, status, attempt } as Shared_JobFragment;
}

test("a job that has ended in a query's answer is not running again by an older message", () => {
  const ended = job("a", "SUCCEEDED");
  expect(laterOf(ended, job("a", "RUNNING"))).toBe(ended);
});

test("a retry is later than the end before it, on either side", () => {
  const retried = job("a", "RUNNING", 2);
  expect(laterOf(job("a", "FAILED"), retried)).toBe(retried);
  expect(laterOf(retried, job("a", "FAILED"))).toBe(retried);
});

test("of an attempt that goes on, the live state is shown", () => {
  const live = job("a", "CANCELING");
  expect(laterOf(job("a", "RUNNING"), live)).toBe(live);
});

test("the oldest finished jobs make room, unfinished ones stay", () => {
  let jobs = withJob(new Map(), job("waiting", "QUEUED"));
  for (let number = 0; number < 150; number += 1) jobs = withJob(jobs, job(`job ${number}`, "SUCCEEDED"));
  expect(jobs.has("waiting")).toBe(true);
  expect(jobs.has("job 49")).toBe(false);
  expect(jobs.has("job 50")).toBe(true);
});

test("after a reconnect a job is as it was told last, and counts as running only if it is told of again", () => {
  const before = toldOf({ now: new Map(), ever: new Map() }, job("a", "RUNNING"));
  const anew = reconnected(before);
  expect(anew.now.size).toBe(0);
  expect(laterOf(job("a", "QUEUED"), anew.ever.get("a")).status).toBe("RUNNING");
  expect(laterOf(job("a", "INTERRUPTED"), anew.ever.get("a")).status).toBe("INTERRUPTED");
  expect(toldOf(anew, job("a", "RUNNING", 2)).ever.get("a")?.attempt).toBe(2);
});
