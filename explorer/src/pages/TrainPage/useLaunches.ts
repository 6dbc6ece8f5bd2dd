import { useRef, useState } from "react";
import { useLocation } from "wouter";
import { useAction } from "../../api/hooks";
import { useLaunchKey } from "../../api/launchKey";
import type { Problem } from "../../api/problems";
import type { TrainSaeInput } from "../../generated/types";
import { TrainPageLaunchMutationDocument } from "./TrainPage.generated";

interface Launched {
  jobId: string;
  saeId: string | null;
}

interface Launches {
  run: (inputs: readonly TrainSaeInput[]) => Promise<void>;
  problem: Problem | null;
  running: boolean;
  /** How many the server has taken. */
  done: number;
}

/** Launches trainings, and leads to the one's job or to the comparison of all. */
export function useLaunches(): Launches {
  const [, navigate] = useLocation();
  const launch = useAction(TrainPageLaunchMutationDocument);
  const taken = useRef(new Map<string, Launched>());
  const launchKey = useLaunchKey();
  const [done, setDone] = useState(0);
  const [running, setRunning] = useState(false);

  const run = async (inputs: readonly TrainSaeInput[]) => {
    setRunning(true);
    const all: Launched[] = [];
    for (const input of inputs) {
      const key = JSON.stringify(input);
      // One that was taken before the server refused another is not trained twice.
      const known = taken.current.get(key);
      if (known) {
        all.push(known);
        continue;
      }
      // An answer may be lost: with its key, what is tried again is not launched twice.
      const keyed = { ...input, idempotencyKey: launchKey(input) };
      const result = await launch.run({ input: keyed, validateOnly: false });
      if (result?.__typename !== "JobLaunched") break;
      const made = { jobId: result.job.id, saeId: result.job.result?.id ?? null };
      taken.current.set(key, made);
      all.push(made);
    }
    setDone(all.length);
    setRunning(false);
    if (all.length === inputs.length) navigate(addressOf(all));
  };
  return { run, problem: launch.problem, running, done };
}

export function addressOf(all: readonly Launched[]): string {
  const [only] = all;
  if (only && all.length === 1) return `/jobs/${only.jobId}`;
  const saes = all.flatMap(({ saeId }) => (saeId ? [["sae", saeId]] : []));
  return saes.length === all.length ? `/compare?${new URLSearchParams(saes)}` : "/jobs";
}
