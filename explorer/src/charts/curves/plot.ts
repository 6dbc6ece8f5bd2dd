import type { RefObject } from "react";
import uPlot from "uplot";
import { compact } from "../../components/numbers";
import { dashesOf, hueOf, type Palette } from "./colors";
import { type Line, type Range, xExtent, yExtent } from "./lines";

export const HEIGHT = 220;
/** Of the y axis, as a share of what it shows. */
const LEAST_SPAN = 2e-3;
const RAW_ALPHA = 0.3;

/** What is drawn by now. */
export interface Drawn {
  lines: readonly Line[];
  range: Range | null;
  palette: Palette;
}

interface Axes {
  xLabel: string;
  /** How values are written. */
  format: (value: number) => string;
  logX: boolean;
  logY: boolean;
  width: number;
}

/** Returns a chart's options. Each line has an x of its own, which is uPlot's mode 2. */
export function optionsFor(
  drawn: RefObject<Drawn>,
  { xLabel, format, logX, logY, width }: Axes,
  onRange: (range: Range) => void,
): uPlot.Options {
  const axis: uPlot.Axis = {
    stroke: () => drawn.current.palette.text,
    grid: { stroke: () => drawn.current.palette.grid, width: 1 },
    ticks: { stroke: () => drawn.current.palette.grid, width: 1 },
    font: "12px system-ui, sans-serif",
  };
  const xRange = (): uPlot.Range.MinMax => {
    const [from, to] = drawn.current.range ?? xExtent(drawn.current.lines, logX) ?? [1, 2];
    return from < to ? [from, to] : [from * 0.9, to * 1.1 || 1];
  };
  const yRange = (): uPlot.Range.MinMax => {
    const { lines, range } = drawn.current;
    const [low, high] = yExtent(lines, range, logY) ?? [logY ? 1 : 0, logY ? 10 : 1];
    if (low === 0 && high === 0) return [0, 1];
    if (logY) return uPlot.rangeLog(low, high, 10, false);
    // A constant's rounding errors are no curve.
    const least = LEAST_SPAN * Math.max(Math.abs(low), Math.abs(high));
    const more = Math.max(0, least - (high - low)) / 2;
    return uPlot.rangeNum(low - more, high + more, 0.1, true);
  };
  return {
    mode: 2 as uPlot.Mode,
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: {
      y: false,
      points: { show: false },
      drag: { x: true, y: false, setScale: false },
      // The page has its own way to show all again.
      bind: { dblclick: () => null },
    },
    scales: {
      x: { time: false, distr: logX ? 3 : 1, range: xRange },
      y: { distr: logY ? 3 : 1, range: yRange },
    },
    axes: [
      {
        ...axis,
        scale: "x",
        label: xLabel,
        labelSize: 18,
        labelFont: axis.font ?? "",
        size: 34,
        values: shown(compact),
      },
      { ...axis, scale: "y", size: 62, values: shown(format) },
    ],
    series: [{}, ...drawn.current.lines.flatMap((line) => seriesOf(line, drawn))],
    hooks: {
      setSelect: [
        (plot) => {
          const { left, width: chosen } = plot.select;
          if (chosen < 2) return;
          onRange([plot.posToVal(left, "x"), plot.posToVal(left + chosen, "x")]);
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
    },
  };
}

/** Returns the lines as the chart takes them: their columns as they are, without a copy. */
export function dataOf(lines: readonly Line[]): uPlot.AlignedData {
  const data = [
    null,
    ...lines.flatMap(({ x, y, raw }) =>
      raw
        ? [
            [x, raw],
            [x, y],
          ]
        : [[x, y]],
    ),
  ];
  // uPlot's types know mode 1 only.
  return data as unknown as uPlot.AlignedData;
}

function seriesOf({ place, raw }: Line, drawn: RefObject<Drawn>): uPlot.Series[] {
  const series: uPlot.Series = {
    // The ranges are known without looking at each value again.
    auto: false,
    width: 1.5,
    stroke: () => drawn.current.palette.series[hueOf(place)] ?? "",
    dash: [...dashesOf(place)],
    points: { show: false },
    facets: [
      { scale: "x", auto: false },
      { scale: "y", auto: false },
    ],
  };
  return raw ? [{ ...series, alpha: RAW_ALPHA, width: 1 }, series] : [series];
}

/** Ticks of a log axis that have no room are null. */
function shown(format: (value: number) => string) {
  return (_: uPlot, ticks: (number | null)[]) => ticks.map((tick) => (tick === null ? "" : format(tick)));
}
