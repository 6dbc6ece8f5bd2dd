import { type KeyboardEvent, useEffect, useId, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import styles from "./CurveChart.module.css";
import { currentPalette, onSchemeChange } from "./colors";
import { type Line, nearest, type Range, xExtent } from "./lines";
import { type Drawn, dataOf, HEIGHT, optionsFor } from "./plot";

interface CurveChartProps {
  title: string;
  /** What the lines tell in words, for those who do not see them. */
  description: string;
  xLabel: string;
  /** How values are written. */
  format: (value: number) => string;
  /** At least one. */
  lines: readonly Line[];
  /** Grows as the lines do, which grow in place. */
  revision: number;
  logX: boolean;
  logY: boolean;
  /** The part of x that is shown; null for all. */
  range: Range | null;
  onRange: (range: Range | null) => void;
  /** Where the readout is taken, in every chart alike. */
  cursor: number | null;
  onCursor: (x: number | null) => void;
}

/** One chart of lines. Drag to zoom, double-click to see all; arrow keys move the readout. */
export function CurveChart(props: CurveChartProps) {
  const { title, description, xLabel, format, lines, revision, logX, logY, range, cursor } = props;
  const id = useId();
  const holder = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  // What uPlot's callbacks read: they are made once, and the lines grow.
  const drawn = useRef<Drawn>({ lines, range, palette: currentPalette() });
  const told = useRef(props);
  told.current = props;

  const identity = lines.map(({ id: line, place, raw }) => `${line}/${place}/${raw !== null}`).join(" ");
  // biome-ignore lint/correctness/useExhaustiveDependencies: lines of the same identity grow in the chart that is there.
  useEffect(() => {
    const element = holder.current;
    if (!element) return;
    drawn.current = { lines, range: told.current.range, palette: currentPalette() };
    const plot = new uPlot(
      optionsFor(drawn, { xLabel, format, logX, logY, width: element.clientWidth }, (chosen) =>
        told.current.onRange(chosen),
      ),
      dataOf(lines),
      element,
    );
    chart.current = plot;
    const move = ({ offsetX }: PointerEvent) => told.current.onCursor(plot.posToVal(offsetX, "x"));
    const leave = () => told.current.onCursor(null);
    const showAll = () => told.current.onRange(null);
    plot.over.addEventListener("pointermove", move);
    plot.over.addEventListener("pointerleave", leave);
    plot.over.addEventListener("dblclick", showAll);
    const sizes = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: HEIGHT }));
    sizes.observe(element);
    const stop = onSchemeChange(() => {
      drawn.current.palette = currentPalette();
      plot.redraw();
    });
    return () => {
      stop();
      sizes.disconnect();
      plot.destroy();
      chart.current = null;
    };
  }, [identity, xLabel, format, logX, logY]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: `revision` tells of points that were added in place.
  useEffect(() => {
    drawn.current.lines = lines;
    drawn.current.range = range;
    chart.current?.setData(dataOf(lines));
  }, [lines, range, revision]);

  useEffect(() => {
    const plot = chart.current;
    if (!plot) return;
    const left = cursor === null ? -10 : plot.valToPos(cursor, "x");
    plot.setCursor({ left, top: cursor === null ? -10 : 0 }, false);
  }, [cursor]);

  const [from, to] = range ?? xExtent(lines, logX) ?? [0, 0];
  const onKeyDown = (event: KeyboardEvent) => {
    const next = moved(event.key, lines, cursor, [from, to]);
    if (next === undefined) return;
    event.preventDefault();
    props.onCursor(next);
  };
  const place = cursor ?? to;
  return (
    <figure className={styles.figure}>
      <figcaption className={styles.title} id={`${id}-title`}>
        {title}
      </figcaption>
      <div
        ref={holder}
        className={styles.chart}
        role="slider"
        tabIndex={0}
        aria-labelledby={`${id}-title`}
        aria-describedby={`${id}-description`}
        aria-valuemin={from}
        aria-valuemax={to}
        aria-valuenow={place}
        aria-valuetext={`${xLabel} ${Math.round(place)}`}
        onKeyDown={onKeyDown}
        onBlur={() => props.onCursor(null)}
      />
      <span id={`${id}-description`} className="hidden-visually">
        {description}
      </span>
    </figure>
  );
}

/** Returns where a key takes the readout: from point to point of the first line; undefined for other keys. */
function moved(
  key: string,
  lines: readonly Line[],
  cursor: number | null,
  [from, to]: Range,
): number | null | undefined {
  const x = lines[0]?.x ?? [];
  const here = nearest(x, cursor ?? to);
  const by = { ArrowLeft: -1, ArrowRight: 1, PageDown: -20, PageUp: 20 }[key];
  if (by !== undefined) return x[Math.min(x.length - 1, Math.max(0, here + by))] ?? null;
  if (key === "Home") return from;
  if (key === "End") return to;
  return key === "Escape" ? null : undefined;
}
