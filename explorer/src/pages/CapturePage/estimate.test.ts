import { expect, test } from "vitest";
import { estimate, textsTaken } from "./estimate";

const CAPTURE = {
  texts: 100,
  meanTokens: 200,
  maxLength: 128,
  splits: false,
  widths: [4, 16],
  dtype: "FLOAT16",
} as const;

test("texts are cut at the length, or split and whole", () => {
  expect(estimate(CAPTURE)).toEqual({ tokens: 12_800, bytes: 512_000 });
  expect(estimate({ ...CAPTURE, splits: true, dtype: "FLOAT32" })).toEqual({
    tokens: 20_000,
    bytes: 1_600_000,
  });
});

test("nothing is claimed of what is not known", () => {
  expect(estimate({ ...CAPTURE, texts: null })).toBeNull();
  expect(estimate({ ...CAPTURE, meanTokens: null })).toBeNull();
  expect(estimate({ ...CAPTURE, widths: [4, null] })).toBeNull();
});

test("no more texts are taken than are left", () => {
  expect(textsTaken(100, 90, 20)).toBe(10);
  expect(textsTaken(100, 200, null)).toBe(0);
  expect(textsTaken(null, 5, 20)).toBe(20);
  expect(textsTaken(null, 5, null)).toBeNull();
});
