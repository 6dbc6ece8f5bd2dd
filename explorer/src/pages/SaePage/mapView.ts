/** Which part of a map is seen: a point of the map lies at `x * scale + left`, `top - y * scale` pixels. */
export interface MapView {
  scale: number;
  left: number;
  top: number;
}

const MARGIN = 12;
/** How much larger than the whole map it can be shown. */
const MAX_ZOOM = 200;

/** Returns the view of all points; those that lie nowhere (NaN) are left out. */
export function viewOfAll(xs: Float32Array, ys: Float32Array, width: number, height: number): MapView {
  const [lowX, highX] = extent(xs);
  const [lowY, highY] = extent(ys);
  const scale = Math.min(
    (width - 2 * MARGIN) / (highX - lowX || 1),
    (height - 2 * MARGIN) / (highY - lowY || 1),
  );
  return {
    scale,
    left: width / 2 - ((lowX + highX) / 2) * scale,
    top: height / 2 + ((lowY + highY) / 2) * scale,
  };
}

export function extent(values: Float32Array): [low: number, high: number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 1];
}

/** Returns the view with another scale in which the point of the map under a pixel is still there. */
export function zoomed(view: MapView, factor: number, x: number, y: number, all: MapView): MapView {
  const scale = Math.min(all.scale * MAX_ZOOM, Math.max(all.scale / 2, view.scale * factor));
  const grown = scale / view.scale;
  return { scale, left: x + (view.left - x) * grown, top: y + (view.top - y) * grown };
}

export function moved(view: MapView, byX: number, byY: number): MapView {
  return { ...view, left: view.left + byX, top: view.top + byY };
}

/** A place in a map's picture. */
export interface Spot {
  x: number;
  y: number;
}

/**
 * Returns the view after what holds the map has moved: a pointer or finger takes along the point under it, two
 * fingers those under them, as far as that goes without turning. Any further ones change nothing.
 */
export function held(view: MapView, before: readonly Spot[], after: readonly Spot[], all: MapView): MapView {
  const [from, otherFrom] = before;
  const [to, otherTo] = after;
  if (!from || !to) return view;
  if (!otherFrom || !otherTo) return moved(view, to.x - from.x, to.y - from.y);
  const [middle, next] = [middleOf(from, otherFrom), middleOf(to, otherTo)];
  // Fingers that nearly touch would make it huge.
  const grown = Math.max(1, distance(to, otherTo)) / Math.max(1, distance(from, otherFrom));
  return moved(zoomed(view, grown, middle.x, middle.y, all), next.x - middle.x, next.y - middle.y);
}

function middleOf(one: Spot, other: Spot): Spot {
  return { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 };
}

function distance(one: Spot, other: Spot): number {
  return Math.hypot(one.x - other.x, one.y - other.y);
}

/** Of one press. */
const STEP = 60;
export const ZOOM = 1.5;

type Size = readonly [width: number, height: number];
const nearer = (view: MapView, [width, height]: Size, all: MapView) =>
  zoomed(view, ZOOM, width / 2, height / 2, all);
const farther = (view: MapView, [width, height]: Size, all: MapView) =>
  zoomed(view, 1 / ZOOM, width / 2, height / 2, all);

const KEYS: Record<string, (view: MapView, size: Size, all: MapView) => MapView> = {
  ArrowLeft: (view) => moved(view, STEP, 0),
  ArrowRight: (view) => moved(view, -STEP, 0),
  ArrowUp: (view) => moved(view, 0, STEP),
  ArrowDown: (view) => moved(view, 0, -STEP),
  "+": nearer,
  // Where plus takes the Shift key.
  "=": nearer,
  "-": farther,
  "0": (_view, _size, all) => all,
};

/** Returns the view that a key leads to; undefined where it leads nowhere. */
export function pressed(key: string, view: MapView, size: Size, all: MapView): MapView | undefined {
  return KEYS[key]?.(view, size, all);
}

/** Finds points of a map by place. */
export interface Places {
  /** Returns the point nearest to a pixel, at most so many pixels away; null where there is none. */
  nearest: (view: MapView, x: number, y: number, within: number) => number | null;
}

const CELLS = 128;

export function placesOf(xs: Float32Array, ys: Float32Array): Places {
  const [lowX, highX] = extent(xs);
  const [lowY, highY] = extent(ys);
  const [sizeX, sizeY] = [(highX - lowX) / CELLS || 1, (highY - lowY) / CELLS || 1];
  const cellOf = (value: number, low: number, size: number) =>
    Math.min(CELLS - 1, Math.max(0, Math.floor((value - low) / size)));
  const cells = new Map<number, number[]>();
  for (let point = 0; point < xs.length; point += 1) {
    const [x, y] = [xs[point] ?? Number.NaN, ys[point] ?? Number.NaN];
    if (Number.isNaN(x) || Number.isNaN(y)) continue;
    const cell = cellOf(y, lowY, sizeY) * CELLS + cellOf(x, lowX, sizeX);
    const list = cells.get(cell);
    if (list) list.push(point);
    else cells.set(cell, [point]);
  }
  return {
    nearest: (view, x, y, within) => {
      const [mapX, mapY, reach] = [
        (x - view.left) / view.scale,
        (view.top - y) / view.scale,
        within / view.scale,
      ];
      let [best, least] = [null as number | null, reach * reach];
      for (let row = cellOf(mapY - reach, lowY, sizeY); row <= cellOf(mapY + reach, lowY, sizeY); row += 1) {
        const last = cellOf(mapX + reach, lowX, sizeX);
        for (let column = cellOf(mapX - reach, lowX, sizeX); column <= last; column += 1) {
          for (const point of cells.get(row * CELLS + column) ?? []) {
            const distance = ((xs[point] ?? 0) - mapX) ** 2 + ((ys[point] ?? 0) - mapY) ** 2;
            if (distance <= least) [best, least] = [point, distance];
          }
        }
      }
      return best;
    },
  };
}
