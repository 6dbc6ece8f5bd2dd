import { useEffect, useMemo, useState } from "react";
import { useClient } from "urql";
import type { NeuronFilter } from "../../generated/types";
import { SaePageHitsQueryDocument } from "./SaePage.generated";

const PAGE = 100;
/** The table's search comes first; each page is a search of its own. */
const AFTER_MS = 500;
/** More are not shown on the map; they are asked for in pages. */
export const MAX_HITS = 500;

/** The neurons that a filter of words and names lets through, 500 at most; null without one, and until they are known. */
export function useHits(saeId: string, filter: NeuronFilter | null): ReadonlySet<number> | null {
  const client = useClient();
  const key = JSON.stringify(filter);
  const [found, setFound] = useState<{ key: string; hits: ReadonlySet<number> } | null>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key stands for the filter.
  useEffect(() => {
    if (filter === null) return;
    let isCurrent = true;
    const load = async () => {
      const hits = new Set<number>();
      for (let offset = 0; offset < MAX_HITS; offset += PAGE) {
        const { data } = await client
          .query(SaePageHitsQueryDocument, { id: saeId, offset, filter })
          .toPromise();
        const nodes = data?.sae?.neurons.nodes ?? [];
        if (!isCurrent) return;
        for (const { index } of nodes) hits.add(index);
        if (nodes.length < PAGE) break;
      }
      setFound({ key, hits });
    };
    const timer = setTimeout(load, AFTER_MS);
    return () => {
      isCurrent = false;
      clearTimeout(timer);
    };
  }, [client, saeId, key]);
  return useMemo(() => (filter !== null && found?.key === key ? found.hits : null), [filter, found, key]);
}
