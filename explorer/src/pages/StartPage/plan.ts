import { type DatasetChoice, decode, encode } from "../DatasetsPage/datasetChoice";

export type Step = "model" | "layer" | "texts" | "training" | "progress";

/** All that has been decided and launched; the address holds it, so that a reload goes on from there. */
export interface Plan {
  model: string | null;
  step: Step;
  layer: string | null;
  data: DatasetChoice;
  texts: number;
  /** Texts after those, to measure on; 0 measures on the same texts. */
  heldOut: number;
  latents: number | null;
  k: number;
  epochs: number;
  /** A capture of the same model, layer and texts that has succeeded: other sizes need no new one. */
  earlier: string | null;
  /** IDs of jobs. */
  capture: string | null;
  train: string | null;
  evaluate: string | null;
}

export const DEFAULT_TEXTS = 900;
export const MAX_LENGTH = 128;
const HELD_OUT = 64;
const DEFAULT_K = 32;
const DEFAULT_EPOCHS = 8;
const STEPS: readonly Step[] = ["model", "layer", "texts", "training"];

/** Returns how many texts to train on, and how many after them to measure on, of so many; null is not known. */
export function shares(count: number | null): { texts: number; heldOut: number } {
  if (count === null) return { texts: DEFAULT_TEXTS, heldOut: HELD_OUT };
  const heldOut = Math.min(HELD_OUT, Math.floor(count / 10));
  return { texts: Math.min(DEFAULT_TEXTS, count - heldOut), heldOut };
}

export function planOf(search: URLSearchParams): Plan {
  const whole = (key: string) => {
    const value = Number(search.get(key) ?? Number.NaN);
    return Number.isSafeInteger(value) && value >= 0 ? value : null;
  };
  const model = search.get("model");
  const capture = search.get("capture");
  const named = STEPS.find((step) => step === search.get("step"));
  return {
    model,
    step: capture ? "progress" : model ? (named ?? "layer") : "model",
    layer: search.get("layer"),
    data: decode(search.get("data")),
    texts: whole("texts") ?? DEFAULT_TEXTS,
    heldOut: whole("heldOut") ?? HELD_OUT,
    latents: whole("latents"),
    k: whole("k") ?? DEFAULT_K,
    epochs: whole("epochs") ?? DEFAULT_EPOCHS,
    earlier: search.get("earlier"),
    capture,
    train: search.get("train"),
    evaluate: search.get("evaluate"),
  };
}

/** Returns an address's parameters for a plan. */
export function paramsOf(plan: Plan): Record<string, string> {
  const { data, step, ...rest } = plan;
  const entries = Object.entries({ ...rest, data: encode(data), step: plan.capture ? null : step });
  return Object.fromEntries(
    entries.flatMap(([key, value]) => (value === null ? [] : [[key, String(value)]])),
  );
}
