import type { TypedDocumentNode } from "@graphql-typed-document-node/core";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useClient } from "urql";
import { pipe, subscribe } from "wonka";
import { type Problem, problemOf } from "../../api/problems";
import type { NeuronFilter, NeuronOrder } from "../../generated/types";
import { PAGE_SIZE, pagesOf } from "./pages";

/** While somebody scrolls, pages are asked for so often at most. */
const SETTLE_MS = 40;

interface Variables {
  offset: number;
  orderBy: NeuronOrder;
  filter?: NeuronFilter | null | undefined;
}

interface Page<Row> {
  totalCount: number;
  nodes: readonly Row[];
}

export interface Pages<Row> {
  /** Entries of the whole list; null until the first page is there. */
  count: number | null;
  /** Undefined while its page is loading. */
  rowAt: (index: number) => Row | undefined;
  /** Tells which rows are seen. */
  onRange: (first: number, last: number) => void;
  problem: Problem | null;
  reload: () => void;
}

/**
 * Loads the pages of a list of neurons that are looked at, at any place, and keeps them live while they are.
 * Pass `pageOf` and `given` that stay the same between renders: others are another list.
 */
export function useNeuronPages<Data, Given extends object, Row>(
  query: TypedDocumentNode<Data, Given & Variables>,
  given: Given,
  list: { orderBy: NeuronOrder; filter: NeuronFilter | null },
  pageOf: (data: Data) => Page<Row> | undefined,
): Pages<Row> {
  const client = useClient();
  const [, setRevision] = useState(0);
  const key = JSON.stringify([given, list]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key says whether the list is another one.
  const loader = useMemo(() => {
    const pages = new Map<number, Page<Row>>();
    const followed = new Map<number, () => void>();
    const state = { count: null as number | null, problem: null as Problem | null };
    const draw = () => setRevision((before) => before + 1);
    const follow = (page: number) => {
      const variables = { ...given, ...list, offset: page * PAGE_SIZE };
      const { unsubscribe } = pipe(
        client.query(query, variables),
        subscribe(({ data, error }) => {
          const found = data && pageOf(data);
          if (found) {
            pages.set(page, found);
            state.count = found.totalCount;
          }
          state.problem = error ? problemOf(error) : null;
          draw();
        }),
      );
      followed.set(page, unsubscribe);
    };
    const stop = () => {
      for (const unsubscribe of followed.values()) unsubscribe();
      followed.clear();
    };
    return {
      state,
      pages,
      /** Asks for these pages, and lets go of others: what is still under way of them is canceled. */
      show: (wanted: readonly number[]) => {
        for (const [page, unsubscribe] of followed) {
          if (wanted.includes(page)) continue;
          followed.delete(page);
          unsubscribe();
        }
        for (const page of wanted) if (!followed.has(page)) follow(page);
      },
      stop,
    };
  }, [client, query, pageOf, key]);

  const range = useRef<readonly [number, number]>([0, 0]);
  const shownAt = useRef(0);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => {
    loader.show(pagesOf(...range.current, loader.state.count));
    return () => {
      clearTimeout(timer.current);
      timer.current = undefined;
      loader.stop();
    };
  }, [loader]);

  const onRange = useCallback(
    (first: number, last: number) => {
      range.current = [first, last];
      const rest = SETTLE_MS - (performance.now() - shownAt.current);
      const show = () => {
        timer.current = undefined;
        shownAt.current = performance.now();
        loader.show(pagesOf(...range.current, loader.state.count));
      };
      if (rest <= 0 && timer.current === undefined) show();
      else timer.current ??= setTimeout(show, rest);
    },
    [loader],
  );
  const rowAt = useCallback(
    (index: number) => loader.pages.get(Math.floor(index / PAGE_SIZE))?.nodes[index % PAGE_SIZE],
    [loader],
  );
  const reload = useCallback(() => {
    loader.stop();
    loader.show(pagesOf(...range.current, loader.state.count));
  }, [loader]);
  return { count: loader.state.count, problem: loader.state.problem, rowAt, onRange, reload };
}
