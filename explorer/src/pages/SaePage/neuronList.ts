import type { ConceptSource, NeuronFilter, NeuronOrder, NeuronSearchField } from "../../generated/types";

/** Which neurons are listed, and in which order: as the address has it. */
export interface NeuronList {
  order: NeuronOrder;
  search: string;
  /** Where to search; everywhere without one. */
  searchIn: NeuronSearchField | null;
  dead: boolean | null;
  named: boolean | null;
  source: ConceptSource | null;
  frequency: Bounds;
  maximum: Bounds;
  /** Only these. */
  indices: readonly number[] | null;
}

export interface Bounds {
  from: number | null;
  to: number | null;
}

export const ORDERS: readonly NeuronOrder[] = [
  "INDEX",
  "FREQUENCY_DESC",
  "FREQUENCY_ASC",
  "MAX_ACTIVATION_DESC",
  "MAX_ACTIVATION_ASC",
  "MEAN_ACTIVATION_DESC",
  "CONCEPT_NAME",
  "CONCEPT_UPDATED_DESC",
];
export const FIELDS: readonly NeuronSearchField[] = ["CONCEPT", "NOTE", "TOP_TEXTS", "PROMOTED_TOKENS"];
/** Those that need no index. */
export const ORDERS_WITHOUT_INDEX: readonly NeuronOrder[] = ["INDEX", "CONCEPT_NAME", "CONCEPT_UPDATED_DESC"];
export const FIELDS_WITHOUT_INDEX: readonly NeuronSearchField[] = ["CONCEPT", "NOTE"];
export const SOURCES: readonly ConceptSource[] = ["MANUAL", "IMPORTED", "GENERATED"];

/** As the API refuses more. */
export const MAX_INDICES = 1_000;

const KEYS = ["order", "q", "in", "dead", "named", "source", "minf", "maxf", "mina", "maxa", "ids"] as const;

const ANY: Bounds = { from: null, to: null };

function oneOf<Value extends string>(values: readonly Value[], text: string | null): Value | null {
  return values.find((value) => value === text) ?? null;
}

function yesOrNo(text: string | null): boolean | null {
  return text === "yes" ? true : text === "no" ? false : null;
}

function numberOf(text: string | null): number | null {
  const value = text === null || text.trim() === "" ? Number.NaN : Number(text);
  return Number.isFinite(value) ? value : null;
}

/** Returns the numbers in a text, however they are separated; null where there is none. */
export function indicesIn(text: string): number[] | null {
  const found = (text.match(/\d{1,9}/g) ?? []).map(Number);
  return found.length > 0 ? [...new Set(found)].slice(0, MAX_INDICES) : null;
}

export function listOf(address: URLSearchParams): NeuronList {
  return {
    order: oneOf(ORDERS, address.get("order")) ?? "INDEX",
    search: address.get("q") ?? "",
    searchIn: oneOf(FIELDS, address.get("in")),
    dead: yesOrNo(address.get("dead")),
    named: yesOrNo(address.get("named")),
    source: oneOf(SOURCES, address.get("source")),
    frequency: { from: numberOf(address.get("minf")), to: numberOf(address.get("maxf")) },
    maximum: { from: numberOf(address.get("mina")), to: numberOf(address.get("maxa")) },
    indices: indicesIn(address.get("ids") ?? ""),
  };
}

/** Returns the list's part of an address; what is as usual is left out. */
export function addressOf(list: NeuronList): URLSearchParams {
  const word = (value: boolean | null) => (value === null ? null : value ? "yes" : "no");
  const values: Record<(typeof KEYS)[number], string | number | null> = {
    order: list.order === "INDEX" ? null : list.order,
    q: list.search || null,
    in: list.searchIn,
    dead: word(list.dead),
    named: word(list.named),
    source: list.source,
    minf: list.frequency.from,
    maxf: list.frequency.to,
    mina: list.maximum.from,
    maxa: list.maximum.to,
    ids: list.indices?.join(" ") ?? null,
  };
  const address = new URLSearchParams();
  for (const key of KEYS) if (values[key] !== null) address.set(key, String(values[key]));
  return address;
}

/** Returns an address in which the list has changed; what else is in it stays, but for the place in the list. */
export function withList(address: URLSearchParams, list: NeuronList): URLSearchParams {
  const next = new URLSearchParams(address);
  for (const key of [...KEYS, "row"]) next.delete(key);
  for (const [key, value] of addressOf(list)) next.set(key, value);
  return next;
}

/** Returns the list's filter as the API takes it; null for all neurons. */
export function filterOf(list: NeuronList): NeuronFilter | null {
  const given: NeuronFilter = {};
  if (list.search.trim()) given.search = list.search.trim();
  if (given.search && list.searchIn) given.searchIn = [list.searchIn];
  if (list.dead !== null) given.dead = list.dead;
  if (list.named !== null) given.hasConcept = list.named;
  if (list.source !== null) given.conceptSource = [list.source];
  if (list.frequency.from !== null) given.minFrequency = list.frequency.from;
  if (list.frequency.to !== null) given.maxFrequency = list.frequency.to;
  if (list.maximum.from !== null) given.minMaxActivation = list.maximum.from;
  if (list.maximum.to !== null) given.maxMaxActivation = list.maximum.to;
  if (list.indices !== null) given.indices = [...list.indices];
  return Object.keys(given).length > 0 ? given : null;
}

/** Returns the list without what is asked of neurons; the order stays. */
export function withoutFilter(list: NeuronList): NeuronList {
  return {
    order: list.order,
    search: "",
    searchIn: null,
    dead: null,
    named: null,
    source: null,
    frequency: ANY,
    maximum: ANY,
    indices: null,
  };
}

/** Returns what is left of the list where no index tells of figures. */
export function withoutFigures(list: NeuronList): NeuronList {
  const order = oneOf(ORDERS_WITHOUT_INDEX, list.order) ?? "INDEX";
  const searchIn = oneOf(FIELDS_WITHOUT_INDEX, list.searchIn);
  return { ...list, order, searchIn, dead: null, frequency: ANY, maximum: ANY };
}

/** Returns the part of the list's filter that figures alone do not decide; null where they do. */
export function wordFilterOf(list: NeuronList): NeuronFilter | null {
  return filterOf({ ...list, dead: null, frequency: ANY, maximum: ANY });
}

/** Returns whether a neuron's figures are within the list's bounds. */
export function figuresFit(list: NeuronList, frequency: number, maximum: number): boolean {
  return (
    (list.dead === null || list.dead === (frequency === 0)) &&
    isWithin(list.frequency, frequency) &&
    isWithin(list.maximum, maximum)
  );
}

function isWithin({ from, to }: Bounds, value: number): boolean {
  return (from === null || value >= from) && (to === null || value <= to);
}
