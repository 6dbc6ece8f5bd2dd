// What answers give to the variables of later requests: the newest IDs, a neuron, a layer, where held-out texts begin.
import { applyEdits, modify, parse } from "jsonc-parser";

const KEY = "gql-server:answers"; // In the browser's storage, as GraphiQL keeps its tabs there.
const KEPT = 50;
const KINDS = { lm: "languageModelId", run: "runId", sae: "saeId", job: "jobId" };
const DEPTH = 0.3; // Of the layer to begin with, as a share of the model's.

/** Return all objects in an answer, the outer and the earlier ones first. */
function objects(value) {
  if (typeof value !== "object" || value === null) return [];
  const inner = Object.values(value).flatMap(objects);
  return Array.isArray(value) ? inner : [value, ...inner];
}

/** Return the values that an answer's data gives, by the name of the variable; lists begin with the newest. */
export function valuesIn(data) {
  const found = {};
  const give = (name, value) => name && value != null && (found[name] ??= value);
  for (const { id, layers, neurons, activationRun } of objects(data)) {
    give(KINDS[String(id).split("_")[0]], id);
    if (Array.isArray(layers)) give("layer", layers[Math.floor(layers.length * DEPTH)]?.name);
    give("sampleOffset", activationRun?.sampleCount);
    give("neuronIndex", neurons?.nodes?.[0]?.index);
    give("bias", neurons?.nodes?.[0]?.steeringRange?.typical);
  }
  return found;
}

/** Values that answers have given, of each variable the last one at its end; kept with the browser's tabs. */
export class Answers {
  #given = JSON.parse(localStorage.getItem(KEY) ?? "{}");
  #initial;

  /** Take the tabs that a first visitor has: what their variables begin with may be filled in. */
  constructor(tabs) {
    this.#initial = tabs.map(({ variables }) => parse(variables ?? "{}"));
  }

  /** Return what an operation sends, taking values from it; ending it ends the operation at once. */
  passOn(parts) {
    const iterator = parts[Symbol.asyncIterator]();
    const next = async () => {
      const step = await iterator.next();
      for (const part of [step.value].flat()) this.#take(part?.data);
      return step;
    };
    const passed = { next, return: (value) => iterator.return(value) };
    return { ...passed, [Symbol.asyncIterator]: () => passed };
  }

  #take(data) {
    for (const [name, value] of Object.entries(valuesIn(data))) {
      const earlier = (this.#given[name] ?? []).filter((one) => one !== value);
      this.#given[name] = [...earlier, value].slice(-KEPT);
    }
    localStorage.setItem(KEY, JSON.stringify(this.#given));
  }

  /** Return a tab's variables with the last values; what somebody has written there stays, and so do comments. */
  fillIn(text) {
    let filled = text;
    for (const [name, value] of Object.entries(parse(text) ?? {})) {
      const given = this.#given[name];
      if (!given || value === given.at(-1)) continue;
      const isTheirs = !given.includes(value) && !this.#initial.some((variables) => variables[name] === value);
      if (!isTheirs) filled = applyEdits(filled, modify(filled, [name], given.at(-1), {}));
    }
    return filled;
  }
}
