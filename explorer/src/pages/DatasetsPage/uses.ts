interface Run {
  id: string;
  name: string;
  dataset: { storedDataset: { id: string } | null };
}

/** Returns the runs of each stored dataset. */
export function usesOf<R extends Run>(runs: readonly R[]): ReadonlyMap<string, readonly R[]> {
  const uses = new Map<string, R[]>();
  for (const run of runs) {
    const id = run.dataset.storedDataset?.id;
    if (id) uses.set(id, [...(uses.get(id) ?? []), run]);
  }
  return uses;
}
