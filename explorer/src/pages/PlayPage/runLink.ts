import { linkable } from "./settings";
import type { Run } from "./useGeneration";

/** What a link says that is to run at once. */
export const RUN = "run";

/** Returns the address that reproduces a run, with the seed that it had; null where it is too long for a link. */
export function linkOf({ settings, state }: Run): string | null {
  const { search, isWhole } = linkable({ ...settings, seed: state.seed ?? settings.seed, config: null });
  if (!isWhole) return null;
  search.set(RUN, "1");
  return `${window.location.origin}${window.location.pathname}?${search}`;
}
