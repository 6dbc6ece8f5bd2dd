import { type PointerEvent, useMemo, useState } from "react";
import { NumberField } from "../components/controls";
import { precise, whole } from "../components/numbers";
import { barHeights, binScale } from "./binScale";
import styles from "./Histogram.module.css";

export type Range = readonly [from: number, to: number];

interface HistogramProps {
  /** Of what, such as "Neurons by frequency". */
  label: string;
  /** One more than there are counts. */
  edges: readonly number[];
  counts: readonly number[];
  logX?: boolean;
  logY?: boolean;
  /** The chosen range; with onBrush it is chosen by dragging, or typed. */
  range?: Range | null;
  onBrush?: (range: Range | null) => void;
  /** A value to mark. */
  mark?: number | null;
}

const WIDTH = 600;
const HEIGHT = 120;

/** Bars of counts, which can choose a range of values. */
export function Histogram(props: HistogramProps) {
  const { label, edges, counts, logX = false, logY = false, range = null, onBrush, mark = null } = props;
  const scale = useMemo(() => binScale(edges, logX), [edges, logX]);
  const heights = useMemo(() => barHeights(counts, logY), [counts, logY]);
  const [drag, setDrag] = useState<Range | null>(null);
  const shown = drag ?? range;

  const valueUnder = ({ currentTarget, clientX }: PointerEvent) => {
    const { left, width } = currentTarget.getBoundingClientRect();
    return scale.valueAt((clientX - left) / width);
  };
  const brush = onBrush && {
    onPointerDown: (event: PointerEvent) => {
      event.currentTarget.setPointerCapture(event.pointerId);
      setDrag([valueUnder(event), valueUnder(event)]);
    },
    onPointerMove: (event: PointerEvent) => drag && setDrag([drag[0], valueUnder(event)]),
    onPointerUp: () => {
      if (drag) onBrush(drag[0] === drag[1] ? null : [Math.min(...drag), Math.max(...drag)]);
      setDrag(null);
    },
  };
  const isOutside = (index: number) =>
    shown !== null &&
    ((edges[index + 1] ?? 0) <= Math.min(...shown) || (edges[index] ?? 0) >= Math.max(...shown));
  const total = counts.reduce((sum, count) => sum + count, 0);

  return (
    <figure className={styles.figure}>
      <svg
        className={onBrush ? styles.brushed : styles.chart}
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`${label}: ${whole(total)} from ${precise(edges[0] ?? 0)} to ${precise(edges.at(-1) ?? 0)}`}
        {...brush}
      >
        {heights.map((height, index) => {
          const x = (scale.positions[index] ?? 0) * WIDTH;
          const width = (scale.positions[index + 1] ?? 0) * WIDTH - x;
          return (
            <rect
              // biome-ignore lint/suspicious/noArrayIndexKey: a bar is its place.
              key={index}
              className={isOutside(index) ? styles.outside : styles.bar}
              x={x}
              y={HEIGHT * (1 - height)}
              width={Math.max(1, width - 1)}
              height={HEIGHT * height}
            >
              <title>{`${precise(edges[index] ?? 0)} to ${precise(edges[index + 1] ?? 0)}: ${whole(counts[index] ?? 0)}`}</title>
            </rect>
          );
        })}
        {mark !== null && (
          <line
            className={styles.mark}
            x1={scale.positionOf(mark) * WIDTH}
            x2={scale.positionOf(mark) * WIDTH}
            y1={0}
            y2={HEIGHT}
          />
        )}
      </svg>
      <figcaption className={styles.axis}>
        <span>{precise(edges[0] ?? 0)}</span>
        <span>{precise(scale.valueAt(0.5))}</span>
        <span>{precise(edges.at(-1) ?? 0)}</span>
      </figcaption>
      {onBrush && <TypedRange edges={edges} range={range} onBrush={onBrush} />}
    </figure>
  );
}

interface TypedRangeProps {
  edges: readonly number[];
  range: Range | null;
  onBrush: (range: Range | null) => void;
}

/** The same range by keyboard. */
function TypedRange({ edges, range, onBrush }: TypedRangeProps) {
  const [low, high] = [edges[0] ?? 0, edges.at(-1) ?? 0];
  const set = (from: number | null, to: number | null) =>
    onBrush(from === null && to === null ? null : [from ?? low, to ?? high]);
  return (
    <div className="row">
      <NumberField
        label="From"
        value={range?.[0] ?? null}
        onChange={(from) => set(from, range?.[1] ?? null)}
      />
      <NumberField label="To" value={range?.[1] ?? null} onChange={(to) => set(range?.[0] ?? null, to)} />
      <button type="button" disabled={range === null} onClick={() => onBrush(null)}>
        All
      </button>
    </div>
  );
}
