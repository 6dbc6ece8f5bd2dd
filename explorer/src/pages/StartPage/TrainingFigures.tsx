import { useMemo } from "react";
import { useTrainingCurves } from "../../api/useTrainingCurves";
import { compact, percent, precise } from "../../components/numbers";
import type { TrainingMetric } from "../../generated/types";

const METRICS: TrainingMetric[] = ["EXPLAINED_VARIANCE", "L0"];

/** The newest figures of a training, as they come. */
export function TrainingFigures({ saeId }: { saeId: string }) {
  const saeIds = useMemo(() => [saeId], [saeId]);
  const { curves } = useTrainingCurves(saeIds, METRICS);
  const [curve] = curves;
  const newest = (metric: TrainingMetric) =>
    curve?.values.get(metric)?.findLast((value) => value !== null) ?? null;
  const variance = newest("EXPLAINED_VARIANCE");
  const l0 = newest("L0");
  const step = curve?.steps.at(-1);
  if (step === undefined) return null;
  return (
    <span>
      Step {compact(step)}
      {variance !== null && `: ${percent(variance)} of the variance explained`}
      {l0 !== null && ` by ${precise(l0)} neurons a token`}
    </span>
  );
}
