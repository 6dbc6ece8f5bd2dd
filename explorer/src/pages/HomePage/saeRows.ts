import type { Sort } from "../../components/DataTable";
import type { HomePage_SaeFragment } from "./HomePage.generated";

export type SaeRow = HomePage_SaeFragment;

/** What a column orders by; null is not known, and comes last either way. */
const KEYS: Record<string, (sae: SaeRow) => string | number | null> = {
  name: ({ name }) => name,
  layer: ({ layer }) => layer,
  neurons: ({ latentCount }) => latentCount,
  variance: ({ evaluation }) => evaluation?.explainedVariance ?? null,
  l0: ({ evaluation }) => evaluation?.l0 ?? null,
};

/** Numbers in names go by their size: block 9 is before block 10. */
const ORDER = new Intl.Collator("en-US", { numeric: true });

/** Returns the sort that an address names. */
export function sortOf(text: string | null): Sort | null {
  const key = text?.replace(/^-/, "") ?? "";
  return Object.hasOwn(KEYS, key) ? { key, descending: text?.startsWith("-") ?? false } : null;
}

/** Returns SAEs in order; without one they stay newest first. */
export function sorted(rows: readonly SaeRow[], sort: Sort | null): readonly SaeRow[] {
  const of = sort && KEYS[sort.key];
  if (!of) return rows;
  const direction = sort.descending ? -1 : 1;
  return [...rows].sort((one, other) => {
    const [a, b] = [of(one), of(other)];
    if (a === null || b === null) return Number(a === null) - Number(b === null);
    return (
      direction * (typeof a === "number" && typeof b === "number" ? a - b : ORDER.compare(`${a}`, `${b}`))
    );
  });
}
