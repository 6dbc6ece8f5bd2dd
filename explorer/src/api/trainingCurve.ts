import type { TrainingMetric } from "../generated/types";
import type { Subscribe } from "./socket";
import type {
  TrainingCurvesQuery,
  TrainingCurvesSubscription,
  TrainingCurvesSubscriptionVariables,
} from "./TrainingCurves.generated";

export type TrainingPointEvent = TrainingCurvesSubscription["trainingPoints"];
type Point = NonNullable<TrainingPointEvent["point"]>;

/** The history of a training in columns of one length. Columns grow in place: `revision` tells of a change. */
export interface TrainingCurve {
  saeId: string;
  /** Sequence number of the last event, for the cursor. */
  sequence: number;
  steps: number[];
  tokenCounts: number[];
  values: Map<TrainingMetric, (number | null)[]>;
  revision: number;
}

const OF_POINT: Record<TrainingMetric, (point: Point) => number | null> = {
  LOSS: (point) => point.loss,
  MSE: (point) => point.mse,
  EXPLAINED_VARIANCE: (point) => point.explainedVariance,
  L0: (point) => point.l0,
  DEAD_FRACTION: (point) => point.deadFraction,
  LEARNING_RATE: (point) => point.learningRate,
  TOKENS_PER_SECOND: (point) => point.tokensPerSecond,
};

export function curveOf(answer: TrainingCurvesQuery["trainingCurves"][number]): TrainingCurve {
  return {
    saeId: answer.sae.id,
    sequence: answer.sequence,
    steps: [...answer.steps],
    tokenCounts: [...answer.tokenCounts],
    values: new Map(answer.series.map(({ metric, values }) => [metric, [...values]])),
    revision: 0,
  };
}

/** What trainingPoints goes on from. */
export function cursorOf(curve: TrainingCurve) {
  return { saeId: curve.saeId, afterStep: curve.steps.at(-1) ?? 0, afterSequence: curve.sequence };
}

/** Takes an event into the curve, in place. */
export function addEvent(curve: TrainingCurve, event: TrainingPointEvent): void {
  // What was taken back stays so for the connections after this one.
  curve.sequence = Math.max(curve.sequence, event.sequence);
  if (event.truncatedAfterStep !== null) dropAfter(curve, event.truncatedAfterStep);
  else if (event.point) append(curve, event.point);
}

function dropAfter(curve: TrainingCurve, step: number): void {
  const kept = curve.steps.findIndex((other) => other > step);
  if (kept < 0) return;
  for (const column of [curve.steps, curve.tokenCounts, ...curve.values.values()]) column.length = kept;
  curve.revision += 1;
}

function append(curve: TrainingCurve, point: Point): void {
  if (point.step <= (curve.steps.at(-1) ?? 0)) return;
  curve.steps.push(point.step);
  curve.tokenCounts.push(point.tokenCount);
  for (const [metric, column] of curve.values) column.push(OF_POINT[metric](point));
  curve.revision += 1;
}

/** Keeps curves up to date, across reconnects; each curve once, 20 at most. Returns how to stop. */
export function followCurves(
  subscribe: Subscribe<TrainingCurvesSubscription, TrainingCurvesSubscriptionVariables>,
  curves: readonly TrainingCurve[],
  changed: (curve: TrainingCurve) => void,
): () => void {
  const byId = new Map(curves.map((curve) => [curve.saeId, curve]));
  return subscribe(() => ({ saes: curves.map(cursorOf) }), {
    next: ({ trainingPoints }) => {
      const curve = byId.get(trainingPoints.saeId);
      if (!curve) return;
      const { revision } = curve;
      addEvent(curve, trainingPoints);
      if (curve.revision !== revision) changed(curve);
    },
  });
}
