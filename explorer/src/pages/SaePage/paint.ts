import type { MapView } from "./mapView";

/** What is drawn of a map: points in this order, each with its color. */
export interface Drawing {
  xs: Float32Array;
  ys: Float32Array;
  /** Those further on cover those before. */
  order: Uint32Array;
  /** Of each point, by its number. */
  colors: Uint32Array;
  /** Of each point, whether it is drawn larger. */
  large: Uint8Array;
}

/**
 * Draws points as disks right into pixels, which for 65,536 of them takes a few milliseconds.
 *
 * @param pixels width x height, emptied before.
 * @param ratio Pixels of the screen for one of the page.
 */
export function paint(
  pixels: Uint32Array,
  width: number,
  height: number,
  view: MapView,
  ratio: number,
  radius: number,
  drawing: Drawing,
): void {
  pixels.fill(0);
  const { xs, ys, order, colors, large } = drawing;
  const small = diskOf(radius * ratio, width);
  const big = diskOf((radius + 1) * ratio, width);
  const [scale, left, top] = [view.scale * ratio, view.left * ratio, view.top * ratio];
  for (const point of order) {
    const disk = large[point] ? big : small;
    const x = Math.round((xs[point] ?? 0) * scale + left);
    const y = Math.round(top - (ys[point] ?? 0) * scale);
    // Also false where the point lies nowhere.
    if (!(x >= disk.reach && y >= disk.reach && x < width - disk.reach && y < height - disk.reach)) continue;
    const center = y * width + x;
    const color = colors[point] ?? 0;
    for (const offset of disk.offsets) pixels[center + offset] = color;
  }
}

function diskOf(radius: number, width: number): { reach: number; offsets: Int32Array } {
  const reach = Math.ceil(radius);
  const offsets: number[] = [];
  for (let y = -reach; y <= reach; y += 1) {
    for (let x = -reach; x <= reach; x += 1)
      if (x * x + y * y <= radius * radius + 0.25) offsets.push(y * width + x);
  }
  return { reach, offsets: Int32Array.from(offsets) };
}
