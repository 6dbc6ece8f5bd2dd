import { type FormEvent, useState } from "react";
import { useAction, useData } from "../../api/hooks";
import { useLaunchKey } from "../../api/launchKey";
import { messageAt } from "../../api/problems";
import { Card } from "../../components/Card";
import { NumberField } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import { bytes, compact, whole } from "../../components/numbers";
import { CapturePageLaunchMutationDocument } from "../CapturePage/CapturePage.generated";
import { estimate } from "../CapturePage/estimate";
import { useDatasetLook } from "../DatasetsPage/DatasetLook";
import { inputOf } from "../DatasetsPage/datasetChoice";
import { STEP_TOKENS } from "../TrainPage/sweep";
import styles from "./Choices.module.css";
import { MAX_LENGTH, type Plan } from "./plan";
import type { SetPlan } from "./StartPage";
import { StartPageClassQueryDocument } from "./StartPage.generated";

const LATENTS_PER_WIDTH = 8;

interface TrainingStepProps {
  plan: Plan & { layer: string };
  model: { id: string; hiddenSize: number | null };
  setPlan: SetPlan;
}

/** How large, and go. */
export function TrainingStep({ plan, model, setPlan }: TrainingStepProps) {
  const { data } = useData(StartPageClassQueryDocument, {}, { policy: "cache-first" });
  const look = useDatasetLook(plan.data, model.id);
  const [texts, setTexts] = useState<number | null>(plan.texts);
  const [heldOut, setHeldOut] = useState<number | null>(plan.heldOut);
  const [latents, setLatents] = useState<number | null>(plan.latents);
  const [k, setK] = useState<number | null>(plan.k);
  const [epochs, setEpochs] = useState<number | null>(plan.epochs);
  const { run, problem, running } = useAction(CapturePageLaunchMutationDocument);
  const launchKey = useLaunchKey();
  const at = (path: string) => messageAt(problem, path);
  const info = data?.server.saeClassInfos.find(({ recommended }) => recommended);
  const width = model.hiddenSize;
  const size = estimate({
    texts,
    meanTokens: look.found?.meanTokenCount ?? null,
    maxLength: MAX_LENGTH,
    splits: false,
    widths: [width],
    dtype: "FLOAT32",
  });

  const onSubmit = async (event: FormEvent) => {
    event.preventDefault();
    const chosen = {
      texts: texts ?? plan.texts,
      heldOut: heldOut ?? 0,
      latents,
      k: k ?? plan.k,
      epochs: epochs ?? plan.epochs,
    };
    const launch = (capture: string) =>
      setPlan({ ...chosen, layer: plan.layer, capture, train: null, evaluate: null });
    if (plan.earlier && chosen.texts === plan.texts) {
      launch(plan.earlier);
      return;
    }
    const input = {
      languageModelId: model.id,
      layers: [plan.layer],
      dataset: inputOf(plan.data),
      sampleLimit: chosen.texts,
      maxLength: MAX_LENGTH,
    };
    const launched = await run({ input: { ...input, idempotencyKey: launchKey(input) } });
    if (launched?.__typename === "JobLaunched") launch(launched.job.id);
  };

  return (
    <Card title="How large?">
      <form className="stack" noValidate onSubmit={onSubmit}>
        {info && (
          <p>
            <strong>{info.name}</strong>, the recommended class.{" "}
            <span className="muted">{info.description}</span>
          </p>
        )}
        <div className={styles.fields}>
          <NumberField
            label="Texts to train on"
            value={texts}
            onChange={setTexts}
            min={1}
            step={1}
            hint={look.found?.sampleCount ? `Of ${whole(look.found.sampleCount)}.` : undefined}
            error={at("sampleLimit")}
          />
          <NumberField
            label="Texts to measure on"
            value={heldOut}
            onChange={setHeldOut}
            min={0}
            step={1}
            hint={heldOut === 0 ? "With 0 it is measured on the same texts." : "Those after them."}
          />
          <NumberField
            label="Neurons"
            value={latents}
            onChange={setLatents}
            min={1}
            step={1}
            placeholder={width ? whole(width * LATENTS_PER_WIDTH) : "8 times the width"}
          />
          <NumberField
            label="k"
            value={k}
            onChange={setK}
            min={1}
            step={1}
            hint="Active neurons per token."
          />
          <NumberField
            label="Epochs"
            value={epochs}
            onChange={setEpochs}
            min={1}
            step={1}
            hint="Passes over the tokens."
          />
        </div>
        <p aria-live="polite">
          {size ? (
            <>
              About <strong>{compact(size.tokens)} tokens</strong>, {bytes(size.bytes)} of activations and{" "}
              {whole(Math.ceil((size.tokens * (epochs ?? plan.epochs)) / STEP_TOKENS))} training steps.
            </>
          ) : (
            <span className="muted">How long it takes is known once the texts have been read.</span>
          )}
        </p>
        {problem && <ErrorBox problem={problem} />}
        <div>
          <button type="submit" className="primary" disabled={running}>
            Make the SAE
          </button>
        </div>
      </form>
    </Card>
  );
}
