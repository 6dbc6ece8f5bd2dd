import { useEffect, useState } from "react";
import { client } from "../../api/client";
import { type Problem, problemOf, refusalOf } from "../../api/problems";
import type { TrainSaeInput } from "../../generated/types";
import { type TrainPage_ValidatedFragment, TrainPageLaunchMutationDocument } from "./TrainPage.generated";

const DEBOUNCE_MS = 400;

export interface Validated {
  /** In the order of the inputs; null for one that is refused. */
  found: readonly (TrainPage_ValidatedFragment | null)[];
  problem: Problem | null;
}

/** Asks what trainings would choose and cost, a moment after the last change. Null while that is not known. */
export function useValidated(inputs: readonly TrainSaeInput[]): Validated | null {
  const asked = JSON.stringify(inputs);
  const [answer, setAnswer] = useState<{ asked: string; validated: Validated } | null>(null);
  useEffect(() => {
    let isCurrent = true;
    const timer = setTimeout(async () => {
      const validated = await validate(JSON.parse(asked) as TrainSaeInput[]);
      if (isCurrent) setAnswer({ asked, validated });
    }, DEBOUNCE_MS);
    return () => {
      isCurrent = false;
      clearTimeout(timer);
    };
  }, [asked]);
  return answer?.asked === asked ? answer.validated : null;
}

async function validate(inputs: readonly TrainSaeInput[]): Promise<Validated> {
  const results = await Promise.all(inputs.map(ask));
  return {
    found: results.map(({ found }) => found),
    problem: results.find(({ problem }) => problem)?.problem ?? null,
  };
}

async function ask(
  input: TrainSaeInput,
): Promise<{ found: Validated["found"][number]; problem: Problem | null }> {
  const { data, error } = await client.mutation(TrainPageLaunchMutationDocument, {
    input,
    validateOnly: true,
  });
  if (!data) return { found: null, problem: error ? problemOf(error) : null };
  const result = data.trainSae;
  return result.__typename === "TrainingValidated"
    ? { found: result, problem: null }
    : { found: null, problem: refusalOf(result) };
}
