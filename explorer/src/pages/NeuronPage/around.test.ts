import { expect, test } from "vitest";
import { around, firingTokens, repeated } from "./around";
import { playHref } from "./playHref";

const text = (peakIndex: number) => ({
  score: 2,
  peakIndex,
  tokenIndex: peakIndex,
  textIndex: 0,
  pieceIndex: 0,
  tokenTexts: Array.from({ length: 33 }, (_, place) => `t${place}`),
  activations: Array.from({ length: 33 }, (_, place) => (place === peakIndex ? 2 : 0)),
});

test("a short text is around its peak, wherever that is", () => {
  for (const peakIndex of [0, 16, 32]) {
    const { tokens, activations, peak } = around(text(peakIndex), true);
    expect(tokens[peak]?.text).toBe(`t${peakIndex}`);
    expect(activations[peak]).toBe(2);
    expect(tokens.length).toBe(peakIndex === 16 ? 13 : 7);
  }
  expect(around(text(16), false).tokens.length).toBe(33);
});

test("values are those of the tokens on which it fires", () => {
  const { tokens, activations } = around(text(5), false);
  expect(firingTokens(tokens, activations)).toEqual([{ place: 5, name: '"t5"', value: 2 }]);
});

test("steering begins with what the neuron fires with", () => {
  expect(playHref("sae_1", 7, 8.123456)).toBe("/saes/sae_1/play?edits=7:1:8.123&watch=7");
  expect(playHref("sae_1", 7, null)).toBe("/saes/sae_1/play?edits=7:1:1&watch=7");
});

test("a stretch that stands in several texts says so", () => {
  expect(repeated(1_201)).toBe(" and 1,200 others");
  expect(repeated(2)).toBe(" and 1 other");
  expect([1, null, undefined].map(repeated)).toEqual(["", "", ""]);
});
