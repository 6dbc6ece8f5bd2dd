import { expect, test } from "vitest";
import { paint } from "./paint";

const VIEW = { scale: 1, left: 0, top: 9 };

function painted(xs: number[], ys: number[], large: number[] = xs.map(() => 0)): string[] {
  const pixels = new Uint32Array(100).fill(9);
  paint(pixels, 10, 10, VIEW, 1, 0.5, {
    xs: Float32Array.from(xs),
    ys: Float32Array.from(ys),
    colors: Uint32Array.from(xs.map((_, point) => point + 1)),
    large: Uint8Array.from(large),
  });
  return Array.from({ length: 10 }, (_, row) => pixels.slice(row * 10, row * 10 + 10).join(""));
}

test("a point is where the view has it, upward on the map being upward on the screen", () => {
  const rows = painted([3], [7]);
  expect(rows[2]).toBe("0001000000");
  expect(rows.join("").replaceAll("0", "")).toBe("1");
});

test("later points cover earlier ones, and larger ones are larger", () => {
  expect(painted([3, 3], [7, 7]).join("").replaceAll("0", "")).toBe("2");
  expect(painted([4], [5], [1]).slice(3, 6)).toEqual(["0001110000", "0001110000", "0001110000"]);
});

test("what lies outside or nowhere is not drawn, and nothing beyond the pixels", () => {
  expect(painted([-3, 40, Number.NaN], [5, 5, Number.NaN]).join("").replaceAll("0", "")).toBe("");
});
