import { expect, test } from "vitest";
import { furtherTexts } from "./topTexts";

test("more texts are offered only where the index may have some", () => {
  expect(furtherTexts(10, 10)).toBeNull();
  expect(furtherTexts(7, 50)).toBeNull();
  expect(furtherTexts(10, 25)).toBe(25);
  expect(furtherTexts(10, 500)).toBe(100);
});
