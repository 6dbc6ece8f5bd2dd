import type { NeuronPage_NamingFragment } from "./NeuronPage.generated";

export type Named = NeuronPage_NamingFragment;

/** Returns the version that a change is made from; null where the neuron has never had a name. */
export function lastVersion({ concept, conceptHistory }: Named): number | null {
  return concept?.version ?? conceptHistory[0]?.version ?? null;
}

/** Returns what was before the last change, and its version, null where that is no name; null where nothing can be undone. */
export function undoOf({
  concept,
  conceptHistory,
}: Named): { name: string | null; version: number | null } | null {
  const [last, before] = conceptHistory;
  if (!last) return null;
  if (before?.name) return { name: before.name, version: before.version };
  return concept ? { name: null, version: null } : null;
}

/** What stands in the fields. */
export interface Draft {
  name: string;
  note: string;
  score: number | null;
}

export function draftOf({ concept }: Named): Draft {
  return { name: concept?.name ?? "", note: concept?.note ?? "", score: concept?.score ?? null };
}

export function isChanged(draft: Draft, neuron: Named): boolean {
  const { name, note, score } = draftOf(neuron);
  return draft.name.trim() !== name || draft.note !== note || draft.score !== score;
}

/** Returns whether a neuron's name has changed since; a page may still show what was before a change of one's own. */
export function isNewer(neuron: Named, base: Named): boolean {
  return (lastVersion(neuron) ?? 0) > (lastVersion(base) ?? 0);
}
