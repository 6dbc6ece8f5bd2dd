import { describe, expect, test } from "vitest";
import type { Shared_JobFragment } from "../../api/Shared.generated";
import { type Jobs, keyOf, nextOf } from "./pipeline";
import { planOf } from "./plan";

type Status = Shared_JobFragment["status"];

function job(status: Status, typename: "ActivationRun" | "Sae" = "Sae", id = "sae_1") {
  return { status, result: { __typename: typename, id } } as const;
}

const RUN = job("SUCCEEDED", "ActivationRun", "run_1");
const DONE = job("SUCCEEDED");
const NONE: Jobs = { capture: undefined, train: undefined, index: undefined, evaluate: undefined };
const AFTER_CAPTURE = { train: null, evaluate: null };
const AFTER_TRAIN = { train: "job_2", evaluate: null };
const ALL = { train: "job_2", evaluate: "job_3" };

describe("what comes next", () => {
  test("waits for the capture, then trains on its run", () => {
    expect(nextOf(AFTER_CAPTURE, NONE)).toEqual({ do: "wait" });
    expect(nextOf(AFTER_CAPTURE, { ...NONE, capture: job("RUNNING") })).toEqual({ do: "wait" });
    expect(nextOf(AFTER_CAPTURE, { ...NONE, capture: RUN })).toEqual({ do: "train", runId: "run_1" });
  });

  test.each<Status>(["FAILED", "CANCELED", "INTERRUPTED"])("stops at a capture that is %s", (status) => {
    expect(nextOf(AFTER_CAPTURE, { ...NONE, capture: job(status) })).toEqual({ do: "stop" });
  });

  test("stops at a job that is gone", () => {
    expect(nextOf(AFTER_CAPTURE, { ...NONE, capture: null })).toEqual({ do: "stop" });
    expect(nextOf(AFTER_TRAIN, { ...NONE, capture: RUN, train: null })).toEqual({ do: "stop" });
  });

  test("measures what was trained, whether the capture is still there or not", () => {
    expect(nextOf(AFTER_TRAIN, { ...NONE, capture: null, train: DONE })).toEqual({
      do: "evaluate",
      saeId: "sae_1",
    });
    expect(nextOf(AFTER_TRAIN, { ...NONE, train: job("RUNNING") })).toEqual({ do: "wait" });
  });

  test("finishes when it is measured and indexed", () => {
    const measured = { ...NONE, capture: RUN, train: DONE, evaluate: DONE };
    expect(nextOf(ALL, { ...measured, index: job("RUNNING") })).toEqual({ do: "wait" });
    expect(nextOf(ALL, { ...measured, index: null })).toEqual({ do: "wait" });
    expect(nextOf(ALL, { ...measured, index: job("FAILED") })).toEqual({ do: "stop" });
    expect(nextOf(ALL, { ...measured, index: DONE })).toEqual({ do: "finish", saeId: "sae_1" });
    expect(nextOf(ALL, { ...measured, index: DONE, evaluate: job("QUEUED") })).toEqual({ do: "wait" });
  });
});

test("a job is launched once for the same choices, and anew for others", () => {
  const plan = { ...planOf(new URLSearchParams()), capture: "job_1" };
  expect(keyOf(plan, "train")).toBe(keyOf({ ...plan, train: "job_2" }, "train"));
  expect(keyOf(plan, "train")).not.toBe(keyOf({ ...plan, k: 8 }, "train"));
  expect(keyOf({ ...plan, train: "job_2" }, "evaluate")).not.toBe(
    keyOf({ ...plan, train: "job_3" }, "evaluate"),
  );
  const trained = { ...plan, train: "job_2" };
  expect(keyOf({ ...trained, heldOut: 10 }, "evaluate")).not.toBe(keyOf(trained, "evaluate"));
});
