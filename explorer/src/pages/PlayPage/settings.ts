import type { GenerateInput, SteeringMode } from "../../generated/types";
import type { Ranking } from "./ranking";

/** What is done to a neuron: latent * multiplier + bias. */
export interface Edit {
  index: number;
  multiplier: number;
  /** Null until it is known how strongly the neuron fires: then its typical value. */
  bias: number | null;
}

/** All that a run depends on, besides the SAE, and how its prompt is looked at: what a link carries. */
export interface PlaySettings {
  prompt: string;
  chat: boolean;
  edits: readonly Edit[];
  mode: SteeringMode;
  watch: readonly number[];
  temperature: number | null;
  topP: number | null;
  topK: number | null;
  repetitionPenalty: number | null;
  seed: number | null;
  maxNewTokens: number | null;
  stop: readonly string[];
  /** The saved config that the edits come from. */
  config: string | null;
  ranking: Ranking;
}

export const DEFAULTS: PlaySettings = {
  prompt: "",
  chat: false,
  edits: [],
  mode: "ERROR_PRESERVING",
  watch: [],
  temperature: 0,
  topP: null,
  topK: null,
  repetitionPenalty: null,
  seed: null,
  maxNewTokens: 40,
  stop: [],
  config: null,
  ranking: { hidesDense: false, order: "activation" },
};

/** The API's limit of watchNeurons. */
export const MAX_WATCHED = 20;
/** Of each token of the output, to choose a contrast from. */
const ALTERNATIVES = 4;

function numberIn(search: URLSearchParams, name: string, otherwise: number | null): number | null {
  const text = search.get(name)?.trim();
  const value = text ? Number(text) : Number.NaN;
  return Number.isFinite(value) ? value : otherwise;
}

function indicesIn(text: string | null): number[] {
  const parts = (text ?? "").split(",").filter((part) => /^\d{1,9}$/.test(part.trim()));
  return [...new Set(parts.map(Number))];
}

/** Reads `12:1:8.5` (or `12:0`, or `12` for its typical bias); each neuron counts once. */
function editsIn(text: string | null): Edit[] {
  const edits = new Map<number, Edit>();
  for (const part of (text ?? "").split(",")) {
    const match = /^\s*(\d{1,9})(?::([^:]+))?(?::([^:]+))?\s*$/.exec(part);
    if (!match) continue;
    const index = Number(match[1]);
    const multiplier = match[2] === undefined ? 1 : Number(match[2]);
    const bias = match[3] === undefined ? (match[2] === undefined ? null : 0) : Number(match[3]);
    if (Number.isFinite(multiplier) && (bias === null || Number.isFinite(bias))) {
      edits.set(index, { index, multiplier, bias });
    }
  }
  return [...edits.values()];
}

/** Reads a link; what cannot be read is as if it were not there. */
export function settingsOf(search: URLSearchParams): PlaySettings {
  return {
    prompt: search.get("prompt") ?? "",
    chat: search.get("chat") === "1",
    edits: editsIn(search.get("edits")),
    mode: search.get("mode") === "reconstruction" ? "RECONSTRUCTION" : "ERROR_PRESERVING",
    watch: indicesIn(search.get("watch")),
    temperature: numberIn(search, "temperature", DEFAULTS.temperature),
    topP: numberIn(search, "topP", null),
    topK: numberIn(search, "topK", null),
    repetitionPenalty: numberIn(search, "penalty", null),
    seed: numberIn(search, "seed", null),
    maxNewTokens: numberIn(search, "max", DEFAULTS.maxNewTokens),
    stop: search.getAll("stop").filter((text) => text !== ""),
    config: search.get("config"),
    ranking: {
      hidesDense: search.get("dense") === "no",
      order: search.get("rank") === "relative" ? "relative" : "activation",
    },
  };
}

function formatted({ index, multiplier, bias }: Edit): string {
  return bias === null ? String(index) : `${index}:${multiplier}:${bias}`;
}

/** Writes a link's query; what is as by default is left out. */
export function searchOf(settings: PlaySettings): URLSearchParams {
  const search = new URLSearchParams();
  const { prompt, chat, edits, mode, watch, stop, config, ranking } = settings;
  if (prompt) search.set("prompt", prompt);
  if (chat) search.set("chat", "1");
  if (edits.length > 0) search.set("edits", edits.map(formatted).join(","));
  if (mode === "RECONSTRUCTION") search.set("mode", "reconstruction");
  if (watch.length > 0) search.set("watch", watch.join(","));
  const numbers = [
    ["temperature", settings.temperature, DEFAULTS.temperature],
    ["topP", settings.topP, null],
    ["topK", settings.topK, null],
    ["penalty", settings.repetitionPenalty, null],
    ["seed", settings.seed, null],
    ["max", settings.maxNewTokens, DEFAULTS.maxNewTokens],
  ] as const;
  for (const [name, value, usual] of numbers) {
    if (value !== null && value !== usual) search.set(name, String(value));
  }
  for (const text of stop) search.append("stop", text);
  if (config) search.set("config", config);
  if (ranking.hidesDense) search.set("dense", "no");
  if (ranking.order === "relative") search.set("rank", "relative");
  return search;
}

/** Longer addresses are cut or refused on their way through mail, chats and proxies. */
const MAX_LINK = 6_000;

/** Returns the query of the page's address: what does not fit leaves out the prompt. */
export function linkable(settings: PlaySettings): { search: URLSearchParams; isWhole: boolean } {
  const search = searchOf(settings);
  if (search.toString().length <= MAX_LINK) return { search, isWhole: true };
  return { search: searchOf({ ...settings, prompt: "" }), isWhole: false };
}

/** Returns the neurons whose activations a run reports: those to watch, then those that are edited. */
export function watchedOf({ watch, edits }: Pick<PlaySettings, "watch" | "edits">): number[] {
  return [...new Set([...watch, ...edits.map(({ index }) => index)])].slice(0, MAX_WATCHED);
}

/** Returns a run's request. Without edits there is only one text. */
export function inputOf(saeId: string, settings: PlaySettings): GenerateInput {
  const { prompt, chat, edits, mode, temperature, topP, topK, seed, maxNewTokens, stop } = settings;
  const isSteered = edits.length > 0;
  return {
    saeId,
    prompts: [prompt],
    chat,
    maxNewTokens: maxNewTokens ?? undefined,
    temperature: temperature ?? undefined,
    topP,
    topK,
    repetitionPenalty: settings.repetitionPenalty,
    seed,
    stop: stop.length > 0 ? [...stop] : null,
    topNeurons: 5,
    topLogProbabilities: ALTERNATIVES,
    watchNeurons: watchedOf(settings),
    compareToBaseline: isSteered,
    steering: isSteered
      ? {
          mode,
          source: {
            edits: edits.map(({ index, multiplier, bias }) => ({
              neuronIndex: index,
              multiplier,
              bias: bias ?? 0,
            })),
          },
        }
      : null,
  } as GenerateInput;
}

/** Returns the settings with a neuron edited; one that is already there stays as it is. */
export function withEdit(settings: PlaySettings, edit: Edit): PlaySettings {
  if (settings.edits.some(({ index }) => index === edit.index)) return settings;
  return { ...settings, edits: [...settings.edits, edit] };
}

/** Returns the settings with an edit in the place of the neuron's former one, or behind all others. */
export function withEditInstead(settings: PlaySettings, edit: Edit): PlaySettings {
  const added = withEdit(settings, edit);
  return { ...added, edits: added.edits.map((one) => (one.index === edit.index ? edit : one)) };
}

/** Stop texts are written one a line, their own line breaks as \n. */
export function stopsOf(text: string): string[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.replaceAll("\\n", "\n"));
}

export function stopText(stops: readonly string[]): string {
  return stops.map((stop) => stop.replaceAll("\n", "\\n")).join("\n");
}
