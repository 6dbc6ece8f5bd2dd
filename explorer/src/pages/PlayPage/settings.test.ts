import { expect, test } from "vitest";
import {
  DEFAULTS,
  inputOf,
  linkable,
  type PlaySettings,
  searchOf,
  settingsOf,
  stopsOf,
  stopText,
  watchedOf,
  withEdit,
  withEditInstead,
} from "./settings";

const ALL: PlaySettings = {
  prompt: "a & b\n#c",
  chat: true,
  edits: [
    { index: 12, multiplier: 0, bias: -8.5 },
    { index: 7, multiplier: 1, bias: null },
  ],
  mode: "RECONSTRUCTION",
  watch: [3, 12],
  temperature: 0.7,
  topP: 0.9,
  topK: 50,
  repetitionPenalty: 1.2,
  seed: 0,
  maxNewTokens: 12,
  stop: ["\n\n", "a,b"],
  config: "config_1",
  ranking: { hidesDense: true, order: "relative" },
};

test("a link carries all settings", () => {
  expect(settingsOf(new URLSearchParams(searchOf(ALL).toString()))).toEqual(ALL);
  expect(searchOf(DEFAULTS).toString()).toBe("");
  expect(settingsOf(new URLSearchParams())).toEqual(DEFAULTS);
});

test("an address that would be too long leaves out the prompt, and says so", () => {
  expect(linkable(ALL)).toEqual({ search: searchOf(ALL), isWhole: true });
  const { search, isWhole } = linkable({ ...ALL, prompt: "x".repeat(10_000) });
  expect(isWhole).toBe(false);
  expect(settingsOf(search)).toEqual({ ...ALL, prompt: "" });
});

test("edits may leave out what is as usual, and what cannot be read is left out", () => {
  const { edits, watch, temperature } = settingsOf(
    new URLSearchParams("edits=5,6:0,7:2:x,-1,8:1:3,5:1:2,nine&watch=1,x,1,4&temperature=hot"),
  );
  expect(edits).toEqual([
    { index: 5, multiplier: 1, bias: 2 },
    { index: 6, multiplier: 0, bias: 0 },
    { index: 8, multiplier: 1, bias: 3 },
  ]);
  expect(watch).toEqual([1, 4]);
  expect(temperature).toBe(0);
});

test("edited neurons are watched, too, each once and no more than the API allows", () => {
  expect(watchedOf(ALL)).toEqual([3, 12, 7]);
  expect(watchedOf({ watch: Array.from({ length: 30 }, (_, index) => index), edits: [] })).toHaveLength(20);
});

test("without edits there is no steering and nothing to compare to", () => {
  expect(inputOf("sae_1", { ...ALL, edits: [] })).toMatchObject({ steering: null, compareToBaseline: false });
  expect(inputOf("sae_1", ALL)).toMatchObject({
    compareToBaseline: true,
    seed: 0,
    topK: 50,
    repetitionPenalty: 1.2,
    stop: ["\n\n", "a,b"],
    steering: {
      mode: "RECONSTRUCTION",
      source: {
        edits: [
          { neuronIndex: 12, multiplier: 0, bias: -8.5 },
          { neuronIndex: 7, multiplier: 1, bias: 0 },
        ],
      },
    },
  });
});

test("a neuron is edited once: an edit that is there stays, or gives place where that is asked for", () => {
  const off = { index: 7, multiplier: 0, bias: 0 };
  expect(withEdit(ALL, off)).toBe(ALL);
  expect(withEditInstead(ALL, off).edits).toEqual([ALL.edits[0], off]);
  expect(withEditInstead(ALL, { ...off, index: 9 }).edits.map(({ index }) => index)).toEqual([12, 7, 9]);
});

test("stop texts are a line each, and keep their line breaks", () => {
  expect(stopsOf(stopText(["\n\n", " end"]))).toEqual(["\n\n", " end"]);
  expect(stopsOf("")).toEqual([]);
});
