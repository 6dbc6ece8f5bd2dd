import { moment } from "./numbers";

/** A moment of the API; a dash where there is none. */
export function Time({ at }: { at: string | null }) {
  if (at === null) return <span className="muted">–</span>;
  return <time dateTime={at}>{moment(at)}</time>;
}
