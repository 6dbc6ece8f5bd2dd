import { expect, test } from "vitest";
import { moved, placesOf, viewOfAll, zoomed } from "./mapView";

const NONE = Number.NaN;
const XS = Float32Array.from([-1, 3, 1, NONE, 1.01]);
const YS = Float32Array.from([0, 2, 1, NONE, 1]);

const pixelOf = (view: ReturnType<typeof viewOfAll>, point: number) => [
  (XS[point] ?? 0) * view.scale + view.left,
  view.top - (YS[point] ?? 0) * view.scale,
];

test("all points are in the first view, the map's middle in its middle", () => {
  const view = viewOfAll(XS, YS, 400, 300);
  expect(pixelOf(view, 2)).toEqual([200, 150]);
  expect(pixelOf(view, 0)[0]).toBeCloseTo(12);
  expect(pixelOf(view, 1)[0]).toBeCloseTo(388);
});

test("zooming leaves the point under the pointer where it is, and has ends", () => {
  const all = viewOfAll(XS, YS, 400, 300);
  const [x = 0, y = 0] = pixelOf(all, 1);
  const near = zoomed(all, 3, x, y, all);
  expect(near.scale).toBeCloseTo(3 * all.scale);
  expect(pixelOf(near, 1)[0]).toBeCloseTo(x);
  expect(pixelOf(near, 1)[1]).toBeCloseTo(y);
  expect(zoomed(all, 1e9, 0, 0, all).scale).toBeCloseTo(200 * all.scale);
});

test("the nearest point is found in every view, as by looking at all", () => {
  const places = placesOf(XS, YS);
  const all = viewOfAll(XS, YS, 400, 300);
  for (const view of [all, moved(zoomed(all, 20, 200, 150, all), -30, 11)]) {
    for (const point of [0, 1, 2, 4]) {
      const [x = 0, y = 0] = pixelOf(view, point);
      expect(places.nearest(view, x, y, 0.5)).toBe(point);
    }
  }
  const [x = 0, y = 0] = pixelOf(all, 0);
  expect(places.nearest(all, x, y - 9, 8)).toBeNull();
  expect(places.nearest(all, x, y - 7, 8)).toBe(0);
});

test("points without a place are nowhere", () => {
  const nowhere = Float32Array.from([NONE]);
  expect(placesOf(nowhere, nowhere).nearest(viewOfAll(nowhere, nowhere, 100, 100), 50, 50, 1e6)).toBeNull();
});
