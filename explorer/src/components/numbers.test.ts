import { expect, test } from "vitest";
import { bytes, compact, duration, precise } from "./numbers";

test("counts are whole as long as they are short", () => {
  expect([0, 999, 9_999, 12_345, 12_345_678, 0.123456].map(compact)).toEqual([
    "0",
    "999",
    "9,999",
    "12.3K",
    "12.3M",
    "0.123",
  ]);
});

test("figures have four digits, and powers of ten at the ends", () => {
  expect([0, 12_288, 0.123456, 123.456, 0.00001234, 12_345_678].map(precise)).toEqual([
    "0",
    "12,288",
    "0.1235",
    "123.5",
    "1.23e-5",
    "1.23e+7",
  ]);
});

test("bytes are in units of a thousand", () => {
  expect([0, 999, 1_000, 1_500_000, 256_000_000, 2e15].map(bytes)).toEqual([
    "0 B",
    "999 B",
    "1 kB",
    "1.5 MB",
    "256 MB",
    "2 PB",
  ]);
});

test("durations carry over", () => {
  expect([0.2, 59, 60, 3_599, 3_725, 200_000].map(duration)).toEqual([
    "1 s",
    "59 s",
    "1 min",
    "1 h 0 min",
    "1 h 2 min",
    "2 days",
  ]);
});
