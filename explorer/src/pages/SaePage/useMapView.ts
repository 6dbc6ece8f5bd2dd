import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";
import { type MapView, zoomed } from "./mapView";
import { type Drawing, paint } from "./paint";

interface Scene {
  drawing: Drawing;
  /** The view of all points. */
  all: MapView;
  width: number;
  height: number;
  /** Pixels of the screen for one of the page. */
  ratio: number;
}

export interface ShownMap {
  /** What is seen now. */
  view: () => MapView;
  /** Shows another part; null for all. */
  show: (next: MapView | null) => void;
  isWhole: boolean;
}

/**
 * The part of a map that a canvas shows. A drag changes it at each frame, so that it is no state of React:
 * it is drawn once a frame, and nothing else on the page is touched.
 */
export function useMapView(canvas: RefObject<HTMLCanvasElement | null>, scene: Scene): ShownMap {
  const newest = useRef(scene);
  const chosen = useRef<MapView | null>(null);
  const frame = useRef(0);
  const image = useRef<ImageData | null>(null);
  const [isWhole, setWhole] = useState(true);

  const draw = useCallback(() => {
    if (frame.current !== 0) return;
    frame.current = requestAnimationFrame(() => {
      frame.current = 0;
      const context = canvas.current?.getContext("2d");
      if (context) image.current = drawn(context, image.current, newest.current, chosen.current);
    });
  }, [canvas]);
  // Events read it, which come after the layout.
  useLayoutEffect(() => {
    newest.current = scene;
  });
  const { drawing, all, width, height, ratio } = scene;
  // biome-ignore lint/correctness/useExhaustiveDependencies: these are what is drawn.
  useEffect(draw, [draw, drawing, all, width, height, ratio]);
  useEffect(
    () => () => {
      cancelAnimationFrame(frame.current);
      frame.current = 0;
    },
    [],
  );

  const view = useCallback(() => chosen.current ?? newest.current.all, []);
  const show = useCallback(
    (next: MapView | null) => {
      // All stays all when the page gets another size.
      chosen.current = next === newest.current.all ? null : next;
      setWhole(chosen.current === null);
      draw();
    },
    [draw],
  );
  return { view, show, isWhole };
}

/** Draws into a canvas by way of an image that is kept from frame to frame; returns the image. */
function drawn(
  context: CanvasRenderingContext2D,
  kept: ImageData | null,
  { drawing, all, width, height, ratio }: Scene,
  chosen: MapView | null,
): ImageData | null {
  const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (columns === 0 || rows === 0) return kept;
  const { canvas } = context;
  if (canvas.width !== columns) canvas.width = columns;
  if (canvas.height !== rows) canvas.height = rows;
  const fits = kept?.width === columns && kept.height === rows;
  const image = fits ? kept : context.createImageData(columns, rows);
  const view = chosen ?? all;
  const radius = radiusOf(drawing.xs.length, width * height, view.scale / all.scale);
  paint(new Uint32Array(image.data.buffer), columns, rows, view, ratio, radius, drawing);
  context.putImageData(image, 0, 0);
  return image;
}

/** Returns points' radius: large where there is room, and larger on a part of the map. */
function radiusOf(count: number, area: number, larger: number): number {
  const whole = Math.min(2.5, Math.max(0.75, Math.sqrt(area / Math.max(1, count)) / 6));
  return Math.min(4, whole + 0.75 * Math.log2(Math.max(1, larger)));
}

/** Zooms by the wheel: with Ctrl, or where the map has the focus, so that the page can be scrolled past it. */
export function useWheel(
  canvas: RefObject<HTMLCanvasElement | null>,
  { view, show }: ShownMap,
  all: MapView,
  onZoom: () => void,
): void {
  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    // React's own handler may not keep the page from scrolling.
    const onWheel = (event: WheelEvent) => {
      if (!event.ctrlKey && document.activeElement !== element) return;
      event.preventDefault();
      const { left, top } = element.getBoundingClientRect();
      const factor = 2 ** (-event.deltaY / (event.deltaMode === 1 ? 10 : 200));
      show(zoomed(view(), factor, event.clientX - left, event.clientY - top, all));
      onZoom();
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, [canvas, view, show, all, onZoom]);
}
