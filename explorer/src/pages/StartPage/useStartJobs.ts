import { useData } from "../../api/hooks";
import { laterOf, useLiveJobs } from "../../api/liveJobs";
import type { Problem } from "../../api/problems";
import type { Shared_JobFragment } from "../../api/Shared.generated";
import type { Plan } from "./plan";
import { StartPageIndexQueryDocument, StartPageJobQueryDocument } from "./StartPage.generated";

type JobState = Shared_JobFragment | null | undefined;

export interface StartJobs {
  capture: JobState;
  train: JobState;
  index: JobState;
  evaluate: JobState;
  problem: Problem | null;
}

/** The plan's jobs as they are now. */
export function useStartJobs(plan: Plan): StartJobs {
  const live = useLiveJobs();
  const now = (job: JobState) => (job ? laterOf(job, live.get(job.id)) : job);
  const capture = useJob(plan.capture);
  const train = useJob(plan.train);
  const evaluate = useJob(plan.evaluate);
  const trained = now(train.job);
  const saeId = trained?.result?.id ?? "";
  // A training queues it at its end; the change of the list of jobs asks anew.
  const index = useData(StartPageIndexQueryDocument, { saeId }, { pause: saeId === "" });
  return {
    capture: now(capture.job),
    train: trained,
    index: now(saeId && index.data ? (index.data.jobs.nodes[0] ?? null) : undefined),
    evaluate: now(evaluate.job),
    problem: capture.problem ?? train.problem ?? index.problem ?? evaluate.problem,
  };
}

function useJob(id: string | null): { job: JobState; problem: Problem | null } {
  const { data, problem } = useData(StartPageJobQueryDocument, { id: id ?? "" }, { pause: id === null });
  return { job: id === null ? undefined : data?.job, problem };
}
