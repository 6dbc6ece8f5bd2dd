import type { TrainingCurve } from "../../api/trainingCurve";
import type { TrainingMetric } from "../../generated/types";

/** Returns the points of curves as CSV, a line each, with every metric that was loaded. */
export function curvesCsv(curves: readonly TrainingCurve[], names: ReadonlyMap<string, string>): string {
  const metrics = [...new Set(curves.flatMap(({ values }) => [...values.keys()]))];
  const head = ["sae_id", "sae", "step", "tokens", ...metrics.map((metric) => metric.toLowerCase())];
  const lines = curves.flatMap((curve) => linesOf(curve, names.get(curve.saeId) ?? "", metrics));
  return `${[head.join(","), ...lines].join("\n")}\n`;
}

function linesOf(
  { saeId, steps, tokenCounts, values }: TrainingCurve,
  name: string,
  metrics: TrainingMetric[],
) {
  const quoted = `"${name.replaceAll('"', '""')}"`;
  return steps.map((step, index) =>
    [
      saeId,
      quoted,
      step,
      tokenCounts[index],
      ...metrics.map((metric) => values.get(metric)?.[index] ?? ""),
    ].join(","),
  );
}
