import { isFinished } from "../../api/jobFeed";
import type { Shared_JobFragment } from "../../api/Shared.generated";
import type { Plan } from "./plan";

type Job = Pick<Shared_JobFragment, "status" | "result">;

/** A job as far as it is known: undefined while it is asked for, null where there is none. */
export interface Jobs {
  capture: Job | null | undefined;
  train: Job | null | undefined;
  index: Job | null | undefined;
  evaluate: Job | null | undefined;
}

export type Next =
  | { do: "wait" }
  | { do: "train"; runId: string }
  | { do: "evaluate"; saeId: string }
  /** Someone has to decide. */
  | { do: "stop" }
  | { do: "finish"; saeId: string };

const WAIT: Next = { do: "wait" };
const STOP: Next = { do: "stop" };

/** Returns what comes next. Whoever has the page open launches it; keys see to it that it happens once. */
export function nextOf(plan: Pick<Plan, "train" | "evaluate">, jobs: Jobs): Next {
  const { capture, train, index, evaluate } = jobs;
  if (!plan.train) {
    const runId = madeBy(capture);
    return runId ? { do: "train", runId } : undone(capture);
  }
  const saeId = madeBy(train);
  if (!saeId) return undone(train);
  if (!plan.evaluate) return { do: "evaluate", saeId };
  if (!madeBy(evaluate)) return undone(evaluate);
  if (index && !madeBy(index)) return undone(index);
  return index ? { do: "finish", saeId } : WAIT;
}

function madeBy(job: Job | null | undefined): string | null {
  return job?.status === "SUCCEEDED" ? (job.result?.id ?? null) : null;
}

function undone(job: Job | null | undefined): Next {
  if (job === undefined) return WAIT;
  return job === null || isFinished(job) ? STOP : WAIT;
}

/** Returns the key of a launch: the same for the same choices, so that a reload or a second tab repeats nothing. */
export function keyOf(plan: Plan, what: "train" | "evaluate"): string {
  const { capture, train, texts, heldOut, latents, k, epochs } = plan;
  const of = what === "train" ? [capture, latents, k, epochs] : [train, texts, heldOut];
  return ["start", what, ...of].join("-");
}
