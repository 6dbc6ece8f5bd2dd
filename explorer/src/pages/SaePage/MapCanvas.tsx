import { type KeyboardEvent, useCallback, useMemo, useState } from "react";
import { useLocation } from "wouter";
import { Select } from "../../components/controls";
import { precise } from "../../components/numbers";
import type { Columns } from "./columns";
import { type ColoredBy, columnOf, drawingOf, positiveExtent } from "./drawing";
import { HoveredNeuron } from "./HoveredNeuron";
import styles from "./MapCanvas.module.css";
import { type MapView, placesOf, pressed, viewOfAll } from "./mapView";
import { addressOf, type NeuronList } from "./neuronList";
import { css, ramp, usePalette } from "./palette";
import { useCanvasSize } from "./useCanvasSize";
import { useHolding } from "./useHolding";
import { useMapView, useWheel } from "./useMapView";

interface MapCanvasProps {
  saeId: string;
  columns: Columns;
  list: NeuronList;
  hits: ReadonlySet<number> | null;
  isFiltered: boolean;
}

const COLORED_BY = [
  { value: "FREQUENCY", label: "Frequency" },
  { value: "MAX_ACTIVATION", label: "Maximum" },
] as const satisfies readonly { value: ColoredBy; label: string }[];
const REACH = 10;
interface Pointed {
  index: number;
  /** Where it is on the map as it is shown. */
  left: number;
  top: number;
}

/** The map itself: drag, zoom, point, click; by keyboard the neuron in the middle is pointed at. */
export function MapCanvas({ saeId, columns, list, hits, isFiltered }: MapCanvasProps) {
  const [, navigate] = useLocation();
  const palette = usePalette();
  const [by, setBy] = useState<ColoredBy>("FREQUENCY");
  const { ref: canvas, width, height, ratio } = useCanvasSize();
  const [pointed, setPointed] = useState<Pointed | null>(null);
  const [xs, ys] = [columnOf(columns, "DECODER_MAP_X"), columnOf(columns, "DECODER_MAP_Y")];
  const all = useMemo(() => viewOfAll(xs, ys, width, height), [xs, ys, width, height]);
  const places = useMemo(() => placesOf(xs, ys), [xs, ys]);
  const drawing = useMemo(
    () => drawingOf(columns, by, palette, isFiltered ? { list, hits } : null),
    [columns, by, palette, isFiltered, list, hits],
  );
  const map = useMapView(canvas, { drawing, all, width, height, ratio });
  // What is pointed at would be somewhere else.
  const leave = useCallback(() => setPointed(null), []);
  useWheel(canvas, map, all, leave);

  const open = (neuron: number | null) => {
    const query = addressOf(list).toString();
    if (neuron !== null) navigate(`/saes/${saeId}/neurons/${neuron}${query && `?${query}`}`);
  };
  const point = (index: number | null) => {
    if (index === null) return setPointed(null);
    const { scale, left, top } = map.view();
    setPointed({ index, left: (xs[index] ?? 0) * scale + left, top: top - (ys[index] ?? 0) * scale });
  };
  const holding = useHolding(map, all, {
    onHover: ({ x, y }) => {
      const nearest = places.nearest(map.view(), x, y, REACH);
      if (nearest !== pointed?.index) point(nearest);
    },
    onDrag: leave,
    onClick: ({ x, y }) => open(places.nearest(map.view(), x, y, REACH)),
  });
  const press = (key: string) => pressed(key, map.view(), [width, height], all);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter") return open(pointed?.index ?? null);
    const next = press(event.key);
    if (!next) return;
    event.preventDefault();
    map.show(next);
    point(places.nearest(next, width / 2, height / 2, width));
  };
  const show = (next: MapView | null) => {
    map.show(next);
    leave();
  };
  const [low, high] = positiveExtent(columnOf(columns, by));
  const gradient = [0, 0.25, 0.5, 0.75, 1].map((share) =>
    css(ramp([palette.low, palette.middle, palette.high], share)),
  );
  return (
    <div className={styles.map}>
      <div className={styles.tools}>
        <Select label="Colored by" value={by} options={COLORED_BY} onChange={setBy} />
        <span className={styles.legend}>
          {precise(low)}
          <span
            className={styles.gradient}
            style={{ background: `linear-gradient(90deg, ${gradient.join(", ")})` }}
          />
          {precise(high)}
        </span>
        <span className={styles.buttons}>
          <button type="button" aria-label="Larger" onClick={() => show(press("+") ?? null)}>
            +
          </button>
          <button type="button" aria-label="Smaller" onClick={() => show(press("-") ?? null)}>
            −
          </button>
          <button type="button" disabled={map.isWhole} onClick={() => show(null)}>
            Whole map
          </button>
        </span>
      </div>
      <div className={styles.frame}>
        {/* biome-ignore lint/a11y/noInteractiveElementToNoninteractiveRole: arrow keys are the map's, not the page's. */}
        <canvas
          ref={canvas}
          className={styles.canvas}
          tabIndex={0}
          role="application"
          aria-label="Map of decoder directions. Arrow keys move it, plus and minus zoom, 0 shows all, Enter opens the neuron in the middle."
          data-pointed={pointed?.index}
          {...holding}
          onPointerLeave={leave}
          onKeyDown={onKeyDown}
        />
        {pointed !== null && <HoveredNeuron saeId={saeId} {...pointed} width={width} />}
      </div>
      <p className="muted">
        Neurons with like decoder directions are near each other; axes mean nothing. Drag to move, click a
        point to open it. Two fingers zoom, and so does the wheel with Ctrl, or once the map has the focus.
      </p>
    </div>
  );
}
