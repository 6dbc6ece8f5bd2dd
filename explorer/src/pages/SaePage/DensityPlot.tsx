import { type PointerEvent, useEffect, useMemo, useRef, useState } from "react";
import { useData } from "../../api/hooks";
import { Empty } from "../../components/Empty";
import { ErrorBox } from "../../components/ErrorBox";
import { compact, precise } from "../../components/numbers";
import { boundsOf, rangeOf } from "./brush";
import styles from "./DensityPlot.module.css";
import { cellAt, type Density, highestOf, shareOf } from "./density";
import type { NeuronList } from "./neuronList";
import { css, ramp, usePalette } from "./palette";
import { SaePageDensityQueryDocument } from "./SaePage.generated";

interface DensityPlotProps {
  saeId: string;
  list: NeuronList;
  onChange: (list: NeuronList) => void;
}

/** How many neurons have which frequency and maximum; a rectangle chooses some. */
export default function DensityPlot({ saeId, list, onChange }: DensityPlotProps) {
  const { data, problem, reload } = useData(SaePageDensityQueryDocument, { id: saeId });
  const density = data?.sae?.neuronDensity;
  if (problem) return <ErrorBox problem={problem} onRetry={reload} />;
  if (!data) return <p className="muted">Loading…</p>;
  if (!density) return <Empty>An earlier version made the index, without these figures.</Empty>;
  if (density.counts.length === 0) return <Empty>No neuron fired.</Empty>;
  return <Plot density={density} list={list} onChange={onChange} />;
}

type Corner = readonly [x: number, y: number];

function Plot({ density, list, onChange }: { density: Density } & Omit<DensityPlotProps, "saeId">) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const palette = usePalette();
  const [corners, setCorners] = useState<readonly [Corner, Corner] | null>(null);
  const [pointed, setPointed] = useState<Corner | null>(null);
  const edges = useMemo(
    () => [density.xEdges.map((edge) => 10 ** edge), density.yEdges.map((edge) => 10 ** edge)] as const,
    [density],
  );
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context) return;
    const [columns, rows] = [density.counts[0]?.length ?? 0, density.counts.length];
    context.canvas.width = columns;
    context.canvas.height = rows;
    const most = Math.log(highestOf(density) + 1) || 1;
    density.counts.forEach((row, y) => {
      row.forEach((count, x) => {
        if (count === 0) return;
        const strength = 0.2 + (0.8 * Math.log(count + 1)) / most;
        context.fillStyle = css(ramp([palette.surface, palette.middle], strength));
        context.fillRect(x, rows - 1 - y, 1, 1);
      });
    });
  }, [density, palette]);

  const at = ({ currentTarget, clientX, clientY }: PointerEvent): Corner => {
    const { left, top, width, height } = currentTarget.getBoundingClientRect();
    const inside = (value: number) => Math.min(1, Math.max(0, value));
    return [inside((clientX - left) / width), inside(1 - (clientY - top) / height)];
  };
  const choose = ([a, b]: readonly [Corner, Corner]) => {
    const range = (place: 0 | 1) => {
      const [low, high] = [Math.min(a[place], b[place]), Math.max(a[place], b[place])];
      return low === high ? null : ([valueAt(edges[place], low), valueAt(edges[place], high)] as const);
    };
    onChange({
      ...list,
      frequency: boundsOf(range(0), edges[0]),
      maximum: boundsOf(range(1), edges[1]),
    });
  };
  const rectangle = corners ?? cornersOf(list, edges);
  const cell = pointed && cellAt(density, ...pointed);
  const [xs, ys] = edges;
  return (
    <figure className={styles.figure}>
      <div className={styles.plot}>
        <span className={styles.y}>
          <span>{precise(ys.at(-1) ?? 0)}</span>
          <span className={styles.title}>maximum</span>
          <span>{precise(ys[0] ?? 0)}</span>
        </span>
        <div
          className={styles.area}
          onPointerDown={(event) => {
            event.currentTarget.setPointerCapture(event.pointerId);
            setCorners([at(event), at(event)]);
          }}
          onPointerMove={(event) => {
            setPointed(at(event));
            if (corners) setCorners([corners[0], at(event)]);
          }}
          onPointerUp={() => {
            if (corners) choose(corners);
            setCorners(null);
          }}
          onPointerLeave={() => setPointed(null)}
        >
          <canvas
            ref={canvas}
            className={styles.canvas}
            role="img"
            aria-label="How many neurons have which frequency and maximum. Bounds can be typed at the table."
          />
          {rectangle && <Rectangle of={rectangle} />}
        </div>
      </div>
      <figcaption className={styles.x}>
        <span>{precise(xs[0] ?? 0)}</span>
        <span className={styles.title}>frequency</span>
        <span>{precise(xs.at(-1) ?? 0)}</span>
      </figcaption>
      <p className="muted">
        {cell
          ? `${compact(cell.count)} neurons: frequency ${precise(10 ** cell.x[0])} to ${precise(10 ** cell.x[1])}, maximum ${precise(10 ** cell.y[0])} to ${precise(10 ** cell.y[1])}`
          : "Drag to choose neurons; click for all. Both axes are logarithmic."}
      </p>
    </figure>
  );
}

function Rectangle({ of: [a, b] }: { of: readonly [Corner, Corner] }) {
  const percent = (value: number) => `${100 * value}%`;
  return (
    <div
      className={styles.rectangle}
      style={{
        left: percent(Math.min(a[0], b[0])),
        bottom: percent(Math.min(a[1], b[1])),
        width: percent(Math.abs(a[0] - b[0])),
        height: percent(Math.abs(a[1] - b[1])),
      }}
    />
  );
}

/** Returns the value at a share of a logarithmic axis. */
function valueAt(edges: readonly number[], share: number): number {
  const [low, high] = [Math.log10(edges[0] ?? 1), Math.log10(edges.at(-1) ?? 1)];
  return 10 ** (low + (high - low) * share);
}

function cornersOf(
  list: NeuronList,
  [xs, ys]: readonly [readonly number[], readonly number[]],
): readonly [Corner, Corner] | null {
  const [x, y] = [rangeOf(list.frequency, xs), rangeOf(list.maximum, ys)];
  if (!x && !y) return null;
  const share = (edges: readonly number[], range: readonly [number, number] | null) =>
    range ? ([shareOf(edges, range[0]), shareOf(edges, range[1])] as const) : ([0, 1] as const);
  const [[left, right], [bottom, top]] = [share(xs, x), share(ys, y)];
  return [
    [left, bottom],
    [right, top],
  ];
}
