import { type PointerEvent, useRef } from "react";
import { held, type MapView, type Spot } from "./mapView";
import type { ShownMap } from "./useMapView";

/** Less is a click with an unsteady hand. */
const DRAG_FROM = 4;

interface Holding {
  onPointerDown: (event: PointerEvent<HTMLElement>) => void;
  onPointerMove: (event: PointerEvent<HTMLElement>) => void;
  onPointerUp: (event: PointerEvent<HTMLElement>) => void;
  onPointerCancel: (event: PointerEvent<HTMLElement>) => void;
}

interface Told {
  /** A pointer that holds nothing is there. */
  onHover: (spot: Spot) => void;
  onDrag: () => void;
  onClick: (spot: Spot) => void;
}

/** Moves a map by a pointer that holds it, and zooms it by two fingers; tells of hovers and clicks. */
export function useHolding({ view, show }: ShownMap, all: MapView, told: Told): Holding {
  const spots = useRef(new Map<number, Spot>());
  const began = useRef<Spot | null>(null);
  const spotOf = ({ currentTarget, clientX, clientY }: PointerEvent<HTMLElement>): Spot => {
    const { left, top } = currentTarget.getBoundingClientRect();
    return { x: clientX - left, y: clientY - top };
  };
  const release = ({ pointerId }: PointerEvent) => {
    spots.current.delete(pointerId);
    // The finger that is left goes on with the drag.
    if (spots.current.size === 0) began.current = null;
  };
  return {
    onPointerDown: (event) => {
      event.currentTarget.setPointerCapture(event.pointerId);
      spots.current.set(event.pointerId, spotOf(event));
      // A second finger clicks nothing.
      began.current = spots.current.size === 1 ? spotOf(event) : null;
    },
    onPointerMove: (event) => {
      const spot = spotOf(event);
      if (!spots.current.has(event.pointerId)) {
        told.onHover(spot);
        return;
      }
      const start = began.current;
      if (start && Math.hypot(spot.x - start.x, spot.y - start.y) < DRAG_FROM) return;
      began.current = null;
      const before = [...spots.current.values()];
      spots.current.set(event.pointerId, spot);
      show(held(view(), before, [...spots.current.values()], all));
      told.onDrag();
    },
    onPointerUp: (event) => {
      if (began.current) told.onClick(spotOf(event));
      release(event);
    },
    onPointerCancel: release,
  };
}
