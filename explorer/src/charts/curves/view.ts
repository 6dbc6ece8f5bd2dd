import type { TrainingMetric } from "../../generated/types";
import { type Range, X_AXES, type XAxis } from "./lines";
import { ALL_METRICS } from "./metrics";

/** How curves are looked at. */
export interface View {
  metrics: readonly TrainingMetric[];
  x: XAxis;
  /** Weight of what came before, 0 to below 1. */
  smoothing: number;
  logX: boolean;
  logY: boolean;
  /** What is zoomed into, in the unit of x. */
  range: Range | null;
  /** IDs of SAEs that are not drawn. */
  hidden: readonly string[];
}

export const PLAIN_VIEW: View = {
  metrics: ["LOSS", "EXPLAINED_VARIANCE", "L0", "DEAD_FRACTION"],
  x: "steps",
  smoothing: 0,
  logX: false,
  logY: false,
  range: null,
  hidden: [],
};

export const MAX_SMOOTHING = 0.99;

/** Reads a view from an address; what is not there, or makes no sense, is as in the plain view. */
export function viewOf(search: URLSearchParams): View {
  const metrics = ALL_METRICS.filter((metric) => search.getAll("metric").includes(metric));
  const smoothing = Number(search.get("smooth") ?? 0);
  const [from = Number.NaN, to = Number.NaN] = (search.get("range") ?? "").split("~").map(Number.parseFloat);
  return {
    metrics: metrics.length > 0 ? metrics : PLAIN_VIEW.metrics,
    x: X_AXES.find((axis) => axis === search.get("x")) ?? PLAIN_VIEW.x,
    smoothing: smoothing > 0 ? Math.min(MAX_SMOOTHING, smoothing) : 0,
    logX: search.has("logx"),
    logY: search.has("logy"),
    range: from < to ? [from, to] : null,
    hidden: search.getAll("hide"),
  };
}

/** Writes a view into an address; the rest of the address stays. */
export function withView(search: URLSearchParams, view: View): URLSearchParams {
  const next = new URLSearchParams(search);
  const isPlain = view.metrics.join() === PLAIN_VIEW.metrics.join();
  const values: Record<string, readonly (string | number)[]> = {
    metric: isPlain ? [] : view.metrics,
    x: view.x === PLAIN_VIEW.x ? [] : [view.x],
    smooth: view.smoothing > 0 ? [view.smoothing] : [],
    logx: view.logX ? [1] : [],
    logy: view.logY ? [1] : [],
    range: view.range ? [view.range.map((end) => Number(end.toPrecision(6))).join("~")] : [],
    hide: view.hidden,
  };
  for (const [name, all] of Object.entries(values)) {
    next.delete(name);
    for (const value of all) next.append(name, String(value));
  }
  return next;
}
