import { percent, precise } from "../../components/numbers";
import type { TrainingMetric } from "../../generated/types";

interface Metric {
  title: string;
  format: (value: number) => string;
  /** Whether it is above zero, so that a log axis shows it. */
  isPositive: boolean;
}

export const METRICS: Record<TrainingMetric, Metric> = {
  LOSS: { title: "Loss", format: precise, isPositive: true },
  EXPLAINED_VARIANCE: { title: "Variance explained", format: percent, isPositive: false },
  L0: { title: "L0", format: precise, isPositive: true },
  DEAD_FRACTION: { title: "Dead neurons", format: percent, isPositive: false },
  MSE: { title: "Mean squared error", format: precise, isPositive: true },
  LEARNING_RATE: { title: "Learning rate", format: precise, isPositive: true },
  TOKENS_PER_SECOND: { title: "Tokens per second", format: precise, isPositive: true },
};

export const ALL_METRICS = Object.keys(METRICS) as TrainingMetric[];
