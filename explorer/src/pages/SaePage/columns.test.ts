import { expect, test } from "vitest";
import { type Columns, unpack, unpackAll } from "./columns";

function packed(values: number[]): string {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  values.forEach((value, place) => {
    view.setFloat32(place * 4, value, true);
  });
  return btoa(String.fromCharCode(...new Uint8Array(view.buffer)));
}

test("numbers are unpacked as they were, those that are none too", () => {
  expect([...unpack(packed([0, -1.5, 3.25e-7, Number.NaN]))]).toEqual([
    0,
    -1.5,
    Math.fround(3.25e-7),
    Number.NaN,
  ]);
});

test("columns are unpacked one in each quiet moment, and can be called off", () => {
  const waiting: (() => void)[] = [];
  const later = (act: () => void) => {
    waiting.push(act);
    return () => {
      waiting.length = 0;
    };
  };
  let found: Columns | null = null;
  const both = [
    { column: "FREQUENCY", float32: packed([0.5]) },
    { column: "MAX_ACTIVATION", float32: packed([2]) },
  ] as const;
  unpackAll(both, later, (columns) => {
    found = columns;
  });
  waiting.shift()?.();
  expect(found).toBeNull();
  waiting.shift()?.();
  waiting.shift()?.();
  expect([...((found as Columns | null)?.keys() ?? [])]).toEqual(["FREQUENCY", "MAX_ACTIVATION"]);

  const stop = unpackAll(both, later, () => expect.unreachable());
  stop();
  expect(waiting).toEqual([]);
});
