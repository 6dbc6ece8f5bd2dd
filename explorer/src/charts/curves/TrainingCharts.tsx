import { useMemo, useState } from "react";
import { useTrainingCurves } from "../../api/useTrainingCurves";
import { DownloadButton } from "../../components/DownloadButton";
import { ErrorBox } from "../../components/ErrorBox";
import type { TrainingMetric } from "../../generated/types";
import { CurveChart } from "./CurveChart";
import { curvesCsv } from "./csv";
import { type Line, smoothed, type XAxis, xOf } from "./lines";
import { METRICS } from "./metrics";
import styles from "./TrainingCharts.module.css";
import { type CurveRow, ValuesTable } from "./ValuesTable";
import type { View } from "./view";

const X_LABELS: Record<XAxis, string> = { steps: "Step", tokens: "Tokens", time: "Seconds of training" };

interface TrainingChartsProps {
  /** At most 20; the same array between renders. */
  saes: readonly { id: string; name: string }[];
  view: View;
  onView: (view: View) => void;
}

/** The curves of trainings, live: a chart for each metric, and a table of the values at the cursor. */
export default function TrainingCharts({ saes, view, onView }: TrainingChartsProps) {
  const [cursor, setCursor] = useState<number | null>(null);
  const key = saes.map(({ id }) => id).join();
  // Always with the speed, so that a change of the axis needs no query.
  const metricKey = [...new Set([...view.metrics, "TOKENS_PER_SECOND"])].join();
  const saeIds = useMemo(() => key.split(",").filter(Boolean), [key]);
  const metrics = useMemo(() => metricKey.split(",") as TrainingMetric[], [metricKey]);
  const { curves, revision, problem, loading, reload } = useTrainingCurves(saeIds, metrics);

  // The same rows while the cursor moves, which must not draw the lines anew.
  const rows = useMemo<CurveRow[]>(
    () =>
      saes.map(({ id, name }, place) => ({
        id,
        name,
        place,
        curve: curves.find(({ saeId }) => saeId === id),
        isHidden: view.hidden.includes(id),
      })),
    [saes, curves, view.hidden],
  );
  const hasPoints = curves.some(({ steps }) => steps.length > 0);
  const toggle = (id: string) =>
    onView({
      ...view,
      hidden: view.hidden.includes(id) ? view.hidden.filter((one) => one !== id) : [...view.hidden, id],
    });

  if (problem) return <ErrorBox problem={problem} onRetry={reload} />;
  if (!hasPoints) {
    return (
      <p className="muted">
        {loading ? "Loading…" : "No points yet. They appear here as the training goes on."}
      </p>
    );
  }
  return (
    <div className="stack">
      <div className={styles.charts}>
        {view.metrics.map((metric) => (
          <MetricChart
            key={metric}
            metric={metric}
            rows={rows}
            revision={revision}
            view={view}
            onView={onView}
            cursor={cursor}
            onCursor={setCursor}
          />
        ))}
      </div>
      <ValuesTable rows={rows} metrics={view.metrics} axis={view.x} cursor={cursor} onToggle={toggle} />
      <div className="row">
        <span className="muted">
          {cursor === null ? "Last values." : "Values at the cursor."} Drag over a chart to zoom.
        </span>
        {view.range && (
          <button type="button" onClick={() => onView({ ...view, range: null })}>
            Show all
          </button>
        )}
        <DownloadButton
          label="Save as CSV"
          fileName="curves.csv"
          text={() => curvesCsv(curves, new Map(saes.map(({ id, name }) => [id, name])))}
        />
      </div>
    </div>
  );
}

interface MetricChartProps {
  metric: TrainingMetric;
  rows: readonly CurveRow[];
  revision: number;
  view: View;
  onView: (view: View) => void;
  cursor: number | null;
  onCursor: (x: number | null) => void;
}

function MetricChart({ metric, rows, revision, view, onView, cursor, onCursor }: MetricChartProps) {
  const { title, format, isPositive } = METRICS[metric];
  const { x, smoothing } = view;
  // biome-ignore lint/correctness/useExhaustiveDependencies: curves grow in place, which `revision` tells of.
  const lines = useMemo(
    () => rows.flatMap((row) => lineOf(row, metric, x, smoothing)),
    [rows, metric, x, smoothing, revision],
  );
  if (lines.length === 0) {
    return (
      <figure className={styles.none}>
        <figcaption>{title}</figcaption>
        <p className="muted">
          {rows.every(({ isHidden }) => isHidden) ? "All are hidden." : "Not known yet."}
        </p>
      </figure>
    );
  }
  const description = lines
    .map(({ label, y, raw }) => `${label}: ${format((raw ?? y).findLast((value) => value !== null) ?? 0)}`)
    .join("; ");
  return (
    <CurveChart
      title={title}
      description={`Last values: ${description}`}
      xLabel={X_LABELS[view.x]}
      format={format}
      lines={lines}
      revision={revision}
      logX={view.logX}
      logY={view.logY && isPositive}
      range={view.range}
      onRange={(range) => onView({ ...view, range })}
      cursor={cursor}
      onCursor={onCursor}
    />
  );
}

function lineOf(row: CurveRow, metric: TrainingMetric, axis: XAxis, smoothing: number): Line[] {
  const { id, name, place, curve, isHidden } = row;
  const values = curve?.values.get(metric);
  if (!curve || isHidden || !values?.some((value) => value !== null)) return [];
  const isSmooth = smoothing > 0;
  return [
    {
      id,
      label: name,
      place,
      x: xOf(curve, axis),
      y: isSmooth ? smoothed(values, smoothing) : values,
      raw: isSmooth ? values : null,
    },
  ];
}
