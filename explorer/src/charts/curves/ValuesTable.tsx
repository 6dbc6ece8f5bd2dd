import { Link } from "wouter";
import type { TrainingCurve } from "../../api/trainingCurve";
import { type Column, DataTable } from "../../components/DataTable";
import { NumberText } from "../../components/NumberText";
import { whole } from "../../components/numbers";
import type { TrainingMetric } from "../../generated/types";
import { dashesOf, hueOf } from "./colors";
import { nearest, type XAxis, xOf } from "./lines";
import { METRICS } from "./metrics";
import styles from "./ValuesTable.module.css";

export interface CurveRow {
  id: string;
  name: string;
  place: number;
  curve: TrainingCurve | undefined;
  isHidden: boolean;
}

interface ValuesTableProps {
  rows: readonly CurveRow[];
  metrics: readonly TrainingMetric[];
  axis: XAxis;
  /** Where the values are taken; null for the last ones. */
  cursor: number | null;
  onToggle: (id: string) => void;
}

/** Legend, readout and the charts' content for those who do not see them, in one. */
export function ValuesTable({ rows, metrics, axis, cursor, onToggle }: ValuesTableProps) {
  const indexOf = (curve: TrainingCurve) =>
    cursor === null ? curve.steps.length - 1 : nearest(xOf(curve, axis), cursor);
  const columns: Column<CurveRow>[] = [
    { key: "sae", title: "SAE", cell: (row) => <Name row={row} onToggle={onToggle} /> },
    {
      key: "step",
      title: "Step",
      numeric: true,
      cell: ({ curve }) => <NumberText value={curve?.steps[indexOf(curve)]} format={whole} />,
    },
    ...metrics.map((metric) => ({
      key: metric,
      title: METRICS[metric].title,
      numeric: true,
      cell: ({ curve }: CurveRow) => (
        <NumberText value={curve?.values.get(metric)?.[indexOf(curve)]} format={METRICS[metric].format} />
      ),
    })),
  ];
  return (
    <DataTable
      caption={cursor === null ? "Last values" : "Values at the cursor"}
      columns={columns}
      rows={rows}
      rowKey={({ id }) => id}
      empty={null}
    />
  );
}

function Name({
  row: { id, name, place, isHidden },
  onToggle,
}: {
  row: CurveRow;
  onToggle: (id: string) => void;
}) {
  return (
    <span className={styles.name}>
      <button
        type="button"
        className={styles.toggle}
        aria-pressed={!isHidden}
        aria-label={`Show ${name} in the charts`}
        onClick={() => onToggle(id)}
      >
        <svg viewBox="0 0 28 8" aria-hidden="true" className={isHidden ? styles.hidden : undefined}>
          <line
            x1="0"
            y1="4"
            x2="28"
            y2="4"
            strokeWidth="3"
            stroke={`var(--series-${hueOf(place) + 1})`}
            strokeDasharray={dashesOf(place).join(" ")}
          />
        </svg>
      </button>
      <Link href={`/saes/${id}`}>{name}</Link>
    </span>
  );
}
