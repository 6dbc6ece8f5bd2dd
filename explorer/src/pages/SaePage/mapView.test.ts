import { expect, test } from "vitest";
import { held, type MapView, moved, placesOf, pressed, type Spot, viewOfAll, zoomed } from "./mapView";

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

const mapAt = ({ scale, left, top }: MapView, { x, y }: Spot) => [(x - left) / scale, (top - y) / scale];

test("what a pointer or two fingers hold stays under them", () => {
  const all = viewOfAll(XS, YS, 400, 300);
  const view = zoomed(all, 3, 100, 80, all);
  const [one, other] = [
    { x: 100, y: 100 },
    { x: 160, y: 180 },
  ];
  const dragged = held(view, [one], [{ x: 130, y: 90 }], all);
  expect(mapAt(dragged, { x: 130, y: 90 })).toEqual(mapAt(view, one).map((value) => expect.closeTo(value)));
  expect(dragged.scale).toBe(view.scale);
  // Twice as far from each other, and moved.
  const [further, last] = [
    { x: 50, y: 40 },
    { x: 170, y: 200 },
  ];
  const pinched = held(view, [one, other], [further, last], all);
  expect(pinched.scale).toBeCloseTo(2 * view.scale);
  expect(mapAt(pinched, further)).toEqual(mapAt(view, one).map((value) => expect.closeTo(value)));
  expect(mapAt(pinched, last)).toEqual(mapAt(view, other).map((value) => expect.closeTo(value)));
});

test("fingers that meet, and a third one, do no harm", () => {
  const all = viewOfAll(XS, YS, 400, 300);
  const spot = { x: 100, y: 100 };
  expect(held(all, [spot, spot], [spot, spot], all)).toEqual(all);
  const met = held(all, [spot, spot], [spot, { x: 100, y: 103 }], all);
  expect(met.scale).toBeCloseTo(3 * all.scale);
  expect(held(all, [], [], all)).toBe(all);
  const three = [spot, { x: 150, y: 100 }, { x: 0, y: 0 }];
  expect(held(all, three, [spot, { x: 150, y: 100 }, { x: 90, y: 9 }], all)).toEqual(all);
});

test("keys zoom about the middle, move, and show all", () => {
  const all = viewOfAll(XS, YS, 400, 300);
  const size = [400, 300] as const;
  const middle = { x: 200, y: 150 };
  const near = pressed("+", all, size, all) ?? all;
  expect(near.scale).toBeCloseTo(1.5 * all.scale);
  expect(mapAt(near, middle)).toEqual(mapAt(all, middle).map((value) => expect.closeTo(value)));
  expect(pressed("=", all, size, all)).toEqual(near);
  expect(pressed("-", near, size, all)?.scale).toBeCloseTo(all.scale);
  expect(pressed("0", near, size, all)).toBe(all);
  // What lies to the right comes to the middle.
  expect(pressed("ArrowRight", all, size, all)).toEqual({ ...all, left: all.left - 60 });
  expect(pressed("ArrowUp", all, size, all)).toEqual({ ...all, top: all.top + 60 });
  expect(pressed("x", all, size, all)).toBeUndefined();
});
