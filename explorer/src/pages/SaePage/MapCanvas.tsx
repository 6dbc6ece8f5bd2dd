import { type KeyboardEvent, type PointerEvent, useEffect, useMemo, useRef, useState } from "react";
import { useLocation } from "wouter";
import { Select } from "../../components/controls";
import { precise } from "../../components/numbers";
import type { Columns } from "./columns";
import { type ColoredBy, columnOf, drawingOf, positiveExtent } from "./drawing";
import { HoveredNeuron } from "./HoveredNeuron";
import styles from "./MapCanvas.module.css";
import { type MapView, moved, placesOf, viewOfAll, zoomed } from "./mapView";
import { addressOf, type NeuronList } from "./neuronList";
import { paint } from "./paint";
import { css, ramp, usePalette } from "./palette";
import { useCanvasSize } from "./useCanvasSize";

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
const STEP = 60;
const ZOOM = 1.5;
/** Less is a click with an unsteady hand. */
const DRAG_FROM = 4;

const KEYS: Record<string, (view: MapView, width: number, height: number, all: MapView) => MapView> = {
  ArrowLeft: (view) => moved(view, STEP, 0),
  ArrowRight: (view) => moved(view, -STEP, 0),
  ArrowUp: (view) => moved(view, 0, STEP),
  ArrowDown: (view) => moved(view, 0, -STEP),
  "+": (view, width, height, all) => zoomed(view, ZOOM, width / 2, height / 2, all),
  "-": (view, width, height, all) => zoomed(view, 1 / ZOOM, width / 2, height / 2, all),
  "0": (_view, _width, _height, all) => all,
};

/** Returns points' radius on the whole map: large where there is room. */
function radiusOf(count: number, area: number): number {
  return Math.min(2.5, Math.max(0.75, Math.sqrt(area / Math.max(1, count)) / 6));
}

/** The map itself: drag, zoom, point, click; by keyboard the neuron in the middle is pointed at. */
export function MapCanvas({ saeId, columns, list, hits, isFiltered }: MapCanvasProps) {
  const [, navigate] = useLocation();
  const palette = usePalette();
  const [by, setBy] = useState<ColoredBy>("FREQUENCY");
  const { ref: canvas, width, height, ratio } = useCanvasSize();
  const [chosenView, setView] = useState<MapView | null>(null);
  const [pointed, setPointed] = useState<number | null>(null);
  const drag = useRef<{ x: number; y: number; isMoving: boolean } | null>(null);
  const [xs, ys] = [columnOf(columns, "DECODER_MAP_X"), columnOf(columns, "DECODER_MAP_Y")];
  const all = useMemo(() => viewOfAll(xs, ys, width, height), [xs, ys, width, height]);
  const places = useMemo(() => placesOf(xs, ys), [xs, ys]);
  const view = chosenView ?? all;
  const drawing = useMemo(
    () => drawingOf(columns, by, palette, isFiltered ? { list, hits } : null),
    [columns, by, palette, isFiltered, list, hits],
  );

  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context || width === 0) return;
    const frame = requestAnimationFrame(() => {
      const [columnsOfPixels, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (context.canvas.width !== columnsOfPixels) context.canvas.width = columnsOfPixels;
      if (context.canvas.height !== rows) context.canvas.height = rows;
      const image = context.createImageData(columnsOfPixels, rows);
      const pixels = new Uint32Array(image.data.buffer);
      const closer = 0.75 * Math.log2(Math.max(1, view.scale / all.scale));
      const radius = Math.min(4, radiusOf(xs.length, width * height) + closer);
      paint(pixels, columnsOfPixels, rows, view, ratio, radius, drawing);
      context.putImageData(image, 0, 0);
    });
    return () => cancelAnimationFrame(frame);
  }, [canvas, drawing, view, all, xs, width, height, ratio]);

  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    // React's own handler may not keep the page from scrolling.
    const onWheel = (event: WheelEvent) => {
      if (!event.ctrlKey && document.activeElement !== element) return;
      event.preventDefault();
      const { left, top } = element.getBoundingClientRect();
      const factor = 2 ** (-event.deltaY / (event.deltaMode === 1 ? 10 : 200));
      setView((before) => zoomed(before ?? all, factor, event.clientX - left, event.clientY - top, all));
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, [canvas, all]);

  const open = (neuron: number | null) => {
    const query = addressOf(list).toString();
    if (neuron !== null) navigate(`/saes/${saeId}/neurons/${neuron}${query && `?${query}`}`);
  };
  const zoomBy = (factor: number) => setView(zoomed(view, factor, width / 2, height / 2, all));
  const onPointerMove = ({ currentTarget, clientX, clientY }: PointerEvent) => {
    const held = drag.current;
    if (held && (held.isMoving || Math.hypot(clientX - held.x, clientY - held.y) >= DRAG_FROM)) {
      setView(moved(view, clientX - held.x, clientY - held.y));
      drag.current = { x: clientX, y: clientY, isMoving: true };
      return;
    }
    const { left, top } = currentTarget.getBoundingClientRect();
    setPointed(places.nearest(view, clientX - left, clientY - top, REACH));
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter") return open(pointed);
    const next = KEYS[event.key]?.(view, width, height, all);
    if (!next) return;
    event.preventDefault();
    setView(next);
    setPointed(places.nearest(next, width / 2, height / 2, width));
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
          <button type="button" aria-label="Larger" onClick={() => zoomBy(ZOOM)}>
            +
          </button>
          <button type="button" aria-label="Smaller" onClick={() => zoomBy(1 / ZOOM)}>
            −
          </button>
          <button type="button" disabled={chosenView === null} onClick={() => setView(null)}>
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
          data-pointed={pointed ?? undefined}
          onPointerDown={(event) => {
            event.currentTarget.setPointerCapture(event.pointerId);
            drag.current = { x: event.clientX, y: event.clientY, isMoving: false };
          }}
          onPointerMove={onPointerMove}
          onPointerUp={() => {
            if (drag.current && !drag.current.isMoving) open(pointed);
            drag.current = null;
          }}
          onPointerLeave={() => setPointed(null)}
          onKeyDown={onKeyDown}
        />
        {pointed !== null && (
          <HoveredNeuron
            saeId={saeId}
            index={pointed}
            left={(xs[pointed] ?? 0) * view.scale + view.left}
            top={view.top - (ys[pointed] ?? 0) * view.scale}
            width={width}
          />
        )}
      </div>
      <p className="muted">
        Neurons with like decoder directions are near each other; axes mean nothing. Drag to move, click a
        point to open it. Hold Ctrl, or click here first, to zoom with the wheel.
      </p>
    </div>
  );
}
