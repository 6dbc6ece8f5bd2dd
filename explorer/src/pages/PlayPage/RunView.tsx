import { useState } from "react";
import { Select } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import type { GenerationVariant } from "../../generated/types";
import {
  activationsOn,
  divergence,
  isUnderWay,
  type Output,
  type RunState,
  surprises,
} from "./generationRun";
import { OutputView } from "./OutputView";
import styles from "./PlayPage.module.css";
import { watchedOf } from "./settings";
import type { Run } from "./useGeneration";
import type { WhyAsked } from "./why";

interface RunViewProps {
  run: Run;
  saeId: string;
  /** A neuron's name by its number. */
  nameOf: (index: number) => string;
  onWhy: (asked: WhyAsked) => void;
}

const VARIANTS: readonly GenerationVariant[] = ["BASELINE", "STEERED"];
const SURPRISE = "surprise";

function words({ status, position, loading, seed }: RunState): string {
  const drawn = seed === null ? "" : ` Seed ${seed}.`;
  switch (status) {
    case "asked":
      return "Asking…";
    case "queued": {
      const before = position > 0 ? `Waiting, ${position} before it.` : "Handed to the model.";
      return loading ? `${before} The model is being loaded.` : before;
    }
    case "generating":
      return `Generating…${drawn}`;
    case "finished":
      return `Done.${drawn}`;
    case "stopped":
      return `Stopped.${drawn}`;
    case "failed":
      return "Failed.";
  }
}

/** A run's texts beside each other, shaded alike. */
export function RunView({ run, saeId, nameOf, onWhy }: RunViewProps) {
  const { state, settings } = run;
  const watched = watchedOf(settings);
  const [shade, setShade] = useState(String(watched[0] ?? "none"));
  const place = watched.indexOf(Number(shade));
  const valuesOf = (variant: GenerationVariant, output: Output) => {
    if (shade === SURPRISE) return surprises(output);
    return activationsOn(state, variant, place);
  };
  const outputs = VARIANTS.flatMap((variant) => {
    const output = state.outputs[variant];
    return output ? [{ variant, output, values: valuesOf(variant, output) }] : [];
  });
  const max = Math.max(0, ...outputs.flatMap(({ values }) => values));
  const differs = divergence(state.outputs.BASELINE, state.outputs.STEERED);
  const isDone = !isUnderWay(state) && state.outputs.STEERED && state.status === "finished";

  return (
    <>
      <p role="status" className="muted">
        {words(state)}
        {differs !== null && ` The texts differ from token ${differs + 1} on.`}
        {isDone && differs === null && " The texts are the same."}
      </p>
      {state.problem && <ErrorBox problem={state.problem} />}
      {outputs.length > 0 && (
        <Select
          label="Shade tokens by"
          value={shade}
          options={[
            ...watched.map((index) => ({ value: String(index), label: nameOf(index) })),
            { value: SURPRISE, label: "Surprise, −log p" },
            { value: "none", label: "Nothing" },
          ]}
          onChange={setShade}
        />
      )}
      <div className={styles.outputs}>
        {outputs.map(({ variant, output, values }) => (
          <OutputView
            key={variant}
            {...{ saeId, variant, output, values, max, settings, onWhy }}
            unit={shade === SURPRISE ? "surprise in nats" : "activation"}
          />
        ))}
      </div>
    </>
  );
}
