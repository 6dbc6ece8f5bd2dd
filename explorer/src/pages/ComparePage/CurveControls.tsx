import type { XAxis } from "../../charts/curves/lines";
import { ALL_METRICS, METRICS } from "../../charts/curves/metrics";
import { MAX_SMOOTHING, PLAIN_VIEW, type View } from "../../charts/curves/view";
import { Checkbox, Select } from "../../components/controls";
import { Field } from "../../components/Field";
import type { TrainingMetric } from "../../generated/types";
import styles from "./CurveControls.module.css";

const X_OPTIONS: readonly { value: XAxis; label: string }[] = [
  { value: "steps", label: "Steps" },
  { value: "tokens", label: "Tokens" },
  { value: "time", label: "Time of training" },
];

interface CurveControlsProps {
  view: View;
  onView: (view: View) => void;
}

/** Which curves, over what, and how smooth. */
export function CurveControls({ view, onView }: CurveControlsProps) {
  const toggle = (metric: TrainingMetric, isShown: boolean) => {
    const metrics = ALL_METRICS.filter((one) => (one === metric ? isShown : view.metrics.includes(one)));
    onView({ ...view, metrics: metrics.length > 0 ? metrics : PLAIN_VIEW.metrics });
  };
  return (
    <>
      <div className="row">
        <Select
          label="Along"
          value={view.x}
          options={X_OPTIONS}
          // What was zoomed into is in another unit.
          onChange={(x) => onView({ ...view, x, range: null })}
        />
        <Field label={`Smoothing ${view.smoothing}`}>
          {(control) => (
            <input
              {...control}
              type="range"
              min={0}
              max={MAX_SMOOTHING}
              step={0.01}
              value={view.smoothing}
              onChange={(event) => onView({ ...view, smoothing: event.target.valueAsNumber })}
            />
          )}
        </Field>
        <Checkbox label="Log x" value={view.logX} onChange={(logX) => onView({ ...view, logX })} />
        <Checkbox
          label="Log y, where above 0"
          value={view.logY}
          onChange={(logY) => onView({ ...view, logY })}
        />
      </div>
      <fieldset className={styles.metrics}>
        <legend className="hidden-visually">Figures</legend>
        {ALL_METRICS.map((metric) => (
          <Checkbox
            key={metric}
            label={METRICS[metric].title}
            value={view.metrics.includes(metric)}
            onChange={(isShown) => toggle(metric, isShown)}
          />
        ))}
      </fieldset>
      {view.x === "time" && (
        <p className="muted">
          Time is worked out from tokens per second; pauses and what was taken back are not in it.
        </p>
      )}
    </>
  );
}
