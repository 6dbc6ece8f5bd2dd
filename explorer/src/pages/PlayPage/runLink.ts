import { searchOf } from "./settings";
import type { Run } from "./useGeneration";

/** What a link says that is to run at once. */
export const RUN = "run";

/** Returns the address that reproduces a run: its settings with the seed that it had, run at once. */
export function linkOf({ settings, state }: Run): string {
  const search = searchOf({ ...settings, seed: state.seed ?? settings.seed, config: null });
  search.set(RUN, "1");
  return `${window.location.origin}${window.location.pathname}?${search}`;
}
