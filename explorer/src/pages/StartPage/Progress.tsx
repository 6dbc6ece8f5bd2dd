import { useEffect, useRef } from "react";
import { useAction, useData } from "../../api/hooks";
import { Card } from "../../components/Card";
import { ErrorBox } from "../../components/ErrorBox";
import type { TrainSaeInput } from "../../generated/types";
import { inputOf } from "../DatasetsPage/datasetChoice";
import { STEP_TOKENS } from "../TrainPage/sweep";
import { TrainPageLaunchMutationDocument } from "../TrainPage/TrainPage.generated";
import { Finished } from "./Finished";
import styles from "./Progress.module.css";
import { keyOf, nextOf } from "./pipeline";
import type { Plan } from "./plan";
import { StageRow } from "./StageRow";
import type { SetPlan } from "./StartPage";
import { StartPageEvaluateMutationDocument, StartPageRunQueryDocument } from "./StartPage.generated";
import { TrainingFigures } from "./TrainingFigures";
import { useStartJobs } from "./useStartJobs";

/** All jobs from the capture to the measured SAE; launches each when the one before it has succeeded. */
export function Progress({ plan, setPlan }: { plan: Plan; setPlan: SetPlan }) {
  const jobs = useStartJobs(plan);
  const train = useAction(TrainPageLaunchMutationDocument);
  const evaluate = useAction(StartPageEvaluateMutationDocument);
  const next = nextOf(plan, jobs);
  const runId = next.do === "train" ? next.runId : "";
  const run = useData(StartPageRunQueryDocument, { id: runId }, { pause: runId === "" });
  const tokenCount = run.data?.activationRun?.tokenCount;

  const launch = async () => {
    if (next.do === "train" && tokenCount !== undefined) {
      // The default class is the recommended one, and takes k.
      const input: TrainSaeInput = {
        activationRunId: next.runId,
        latentCount: plan.latents,
        k: plan.k,
        epochs: plan.epochs,
        batchSize: Math.min(STEP_TOKENS, tokenCount),
        idempotencyKey: keyOf(plan, "train"),
      };
      const launched = await train.run({ input, validateOnly: false });
      if (launched?.__typename === "JobLaunched") setPlan({ train: launched.job.id }, { replace: true });
    } else if (next.do === "evaluate") {
      const { heldOut, texts } = plan;
      const share = heldOut > 0 ? { sampleOffset: texts, sampleLimit: heldOut } : {};
      const input = {
        saeId: next.saeId,
        dataset: inputOf(plan.data),
        ...share,
        idempotencyKey: keyOf(plan, "evaluate"),
      };
      const launched = await evaluate.run({ input });
      if (launched?.__typename === "JobLaunched") setPlan({ evaluate: launched.job.id }, { replace: true });
    }
  };
  // Once for each thing to launch; what is refused waits for a person.
  const launched = useRef("");
  const isDue = next.do === "evaluate" || (next.do === "train" && tokenCount !== undefined);
  const due = isDue ? next.do : "";
  const newest = useRef(launch);
  newest.current = launch;
  useEffect(() => {
    if (due === "" || launched.current === due) return;
    launched.current = due;
    void newest.current();
  }, [due]);

  const problem = train.problem ?? evaluate.problem;
  const saeId = jobs.train?.result?.id;
  const captured = jobs.capture?.status === "SUCCEEDED" && jobs.capture.result ? plan.capture : null;
  return (
    <>
      {next.do === "finish" && <Finished saeId={next.saeId} isHeldOut={plan.heldOut > 0} />}
      <Card title="Progress">
        {jobs.problem && <ErrorBox problem={jobs.problem} />}
        <ol className={styles.stages}>
          <StageRow
            title="Capture activations"
            what="The model reads the texts."
            job={jobs.capture}
            launched={plan.capture !== null}
          />
          <StageRow
            title="Train the SAE"
            what="It learns to write each activation as a few neurons."
            job={jobs.train}
            launched={plan.train !== null}
          >
            {saeId && <TrainingFigures saeId={saeId} />}
          </StageRow>
          <StageRow
            title="Index the neurons"
            what="How often each fires, and on which texts most."
            job={jobs.index}
            launched={jobs.index !== undefined && jobs.index !== null}
          />
          <StageRow
            title="Measure it"
            what="What the model loses when the SAE stands in its layer's place."
            job={jobs.evaluate}
            launched={plan.evaluate !== null}
          />
        </ol>
        {problem && <ErrorBox problem={problem} onRetry={() => void launch()} />}
        {(problem || next.do === "stop") && (
          <p className="row">
            <button
              type="button"
              onClick={() =>
                setPlan({ step: "training", earlier: captured, capture: null, train: null, evaluate: null })
              }
            >
              Choose other sizes
            </button>
            {captured && <span className="muted">What has been captured is used again.</span>}
          </p>
        )}
        {next.do !== "finish" && (
          <p className="muted">
            This page starts each step when the one before it is done. Close it and come back to this address
            whenever you like: it goes on from where it was.
          </p>
        )}
      </Card>
    </>
  );
}
