/** Two sets of texts. */
export interface Sets {
  a: readonly string[];
  b: readonly string[];
}

/** Longer addresses are cut or refused on their way through mail, chats and proxies. */
const MAX_LINK = 4_000;
const KEPT = "kept";

/** Texts are written one a line. */
export function linesOf(text: string): string[] {
  return text.split(/\r?\n/).filter((line) => line.trim() !== "");
}

/** Returns the query of a link to two sets; what does not fit is kept in the tab under a key of its own. */
export function searchOfSets({ a, b }: Sets, storage: Storage, key: string): URLSearchParams {
  const search = new URLSearchParams();
  for (const text of a) search.append("a", text);
  for (const text of b) search.append("b", text);
  if (search.toString().length <= MAX_LINK) return search;
  storage.setItem(nameOf(key), JSON.stringify({ a, b }));
  return new URLSearchParams({ [KEPT]: key });
}

export type Found =
  | { state: "none" }
  /** The texts, in the link or kept in the tab. */
  | { state: "linked" | "kept"; sets: Sets }
  /** The link is from another tab. */
  | { state: "lost" };

/** Returns the sets that a link names. */
export function setsOf(search: URLSearchParams, storage: Storage): Found {
  const key = search.get(KEPT);
  if (key !== null) {
    const kept = setsIn(storage.getItem(nameOf(key)));
    return kept ? { state: "kept", sets: kept } : { state: "lost" };
  }
  const sets = { a: search.getAll("a"), b: search.getAll("b") };
  return sets.a.length + sets.b.length > 0 ? { state: "linked", sets } : { state: "none" };
}

function nameOf(key: string): string {
  return `contrast-${key}`;
}

function setsIn(text: string | null): Sets | null {
  if (text === null) return null;
  try {
    const { a, b } = JSON.parse(text) as Partial<Sets>;
    return Array.isArray(a) && Array.isArray(b) ? { a, b } : null;
  } catch {
    return null;
  }
}

/** How a neuron's activations on one set of tokens compare to those on another. */
export interface Effect {
  /** Tokens on which it fires, of all of a set. */
  firesA: number;
  firesB: number;
  countA: number;
  countB: number;
  /** Cohen's d: the difference of means in pooled standard deviations; null where nothing varies. */
  d: number | null;
}

export function effectOf(a: readonly number[], b: readonly number[]): Effect {
  const [meanA, squaresA] = moments(a);
  const [meanB, squaresB] = moments(b);
  const freedom = a.length + b.length - 2;
  const deviation = freedom > 0 ? Math.sqrt((squaresA + squaresB) / freedom) : 0;
  const fires = (values: readonly number[]) => values.filter((value) => value > 0).length;
  return {
    firesA: fires(a),
    firesB: fires(b),
    countA: a.length,
    countB: b.length,
    d: deviation > 0 ? (meanA - meanB) / deviation : null,
  };
}

/** Returns the mean, and the sum of squared distances from it. */
function moments(values: readonly number[]): [number, number] {
  const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
  return [mean, values.reduce((sum, value) => sum + (value - mean) ** 2, 0)];
}
