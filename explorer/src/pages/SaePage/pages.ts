/** As the queries ask for. */
export const PAGE_SIZE = 60;

/** Returns the pages that rows are on, first and last included; never one behind the list's end. */
export function pagesOf(first: number, last: number, count: number | null): number[] {
  const end = count === null ? last : Math.min(last, Math.max(0, count - 1));
  const from = Math.floor(Math.min(first, end) / PAGE_SIZE);
  const to = Math.floor(end / PAGE_SIZE);
  return Array.from({ length: to - from + 1 }, (_, place) => from + place);
}
