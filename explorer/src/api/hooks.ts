import type { TypedDocumentNode } from "@graphql-typed-document-node/core";
import { useCallback, useState } from "react";
import { type AnyVariables, type RequestPolicy, useMutation, useQuery } from "urql";
import { type Problem, problemOf, refusalOf, type Success } from "./problems";

export interface Answer<Data> {
  /** The newest answer, from the cache at first; undefined until there is one. */
  data: Data | undefined;
  problem: Problem | null;
  loading: boolean;
  /** Asks again. */
  reload: () => void;
}

interface QueryOptions {
  /** Do not ask yet. */
  pause?: boolean;
  /** "cache-first" for what takes the server long and does not change by itself. */
  policy?: RequestPolicy;
}

/** Asks a query and keeps its answer up to date. */
export function useData<Data, Variables extends AnyVariables>(
  query: TypedDocumentNode<Data, Variables>,
  variables: Variables,
  { pause = false, policy }: QueryOptions = {},
): Answer<Data> {
  const [{ data, error, fetching, stale }, execute] = useQuery<Data, Variables>({
    query,
    variables,
    pause,
    ...(policy && { requestPolicy: policy }),
  } as Parameters<typeof useQuery<Data, Variables>>[0]);
  const reload = useCallback(() => execute({ requestPolicy: "network-only" }), [execute]);
  return { data, problem: error ? problemOf(error) : null, loading: fetching || stale, reload };
}

type Result<Data> = Data[keyof Data] & { __typename: string };

export interface Action<Data, Variables> {
  /** Resolves to what came of it; null where it was refused, and `problem` says why. */
  run: (variables: Variables) => Promise<Success<Result<Data>> | null>;
  problem: Problem | null;
  running: boolean;
  /** Forgets the problem. */
  clear: () => void;
}

/** A mutation of one field whose result is a union of success and refusals. */
export function useAction<Data extends object, Variables extends AnyVariables>(
  mutation: TypedDocumentNode<Data, Variables>,
): Action<Data, Variables> {
  const [{ fetching }, execute] = useMutation(mutation);
  const [problem, setProblem] = useState<Problem | null>(null);
  const run = useCallback(
    async (variables: Variables) => {
      const { data, error } = await execute(variables);
      const result = data && (Object.values(data).find(isResult) as Result<Data> | undefined);
      const found = result ? refusalOf(result) : error ? problemOf(error) : null;
      setProblem(found);
      return found || !result ? null : (result as Success<Result<Data>>);
    },
    [execute],
  );
  return { run, problem, running: fetching, clear: useCallback(() => setProblem(null), []) };
}

function isResult(value: unknown): value is { __typename: string } {
  return typeof value === "object" && value !== null && "__typename" in value;
}
