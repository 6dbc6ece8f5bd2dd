import { useEffect, useMemo, useState } from "react";
import { useClient } from "urql";
import type { NeuronFilter } from "../../generated/types";
import { SaePageHitsQueryDocument } from "./SaePage.generated";

const PAGE = 100;
/** More are not shown on the map; they are asked for in pages. */
export const MAX_HITS = 2_000;

/** The neurons that a filter of words and names lets through, 2,000 at most; null without one, and until they are known. */
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
    void load();
    return () => {
      isCurrent = false;
    };
  }, [client, saeId, key]);
  return useMemo(() => (filter !== null && found?.key === key ? found.hits : null), [filter, found, key]);
}
