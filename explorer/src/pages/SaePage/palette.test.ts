import { expect, test } from "vitest";
import { rgbOf } from "./palette";

test.each([
  ["#1f5b95", [31, 91, 149]],
  [" #ffffff", [255, 255, 255]],
  ["#fff", [255, 255, 255]],
  ["#0a8", [0, 170, 136]],
] as const)("the theme's color %s is read", (text, color) => {
  expect(rgbOf(text)).toEqual(color);
});
