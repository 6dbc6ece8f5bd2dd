import {
  cacheExchange,
  type Exchange,
  formatDocument,
  makeOperation,
  type Operation,
  type OperationResult,
} from "urql";
import { filter, map, merge, pipe, type Source, share, tap } from "wonka";
import type { NodeKind } from "../generated/types";

const TYPENAMES: Record<NodeKind, readonly string[]> = {
  LANGUAGE_MODEL: ["LanguageModel", "Query"],
  STORED_DATASET: ["StoredDataset", "StoredDatasetConnection"],
  ACTIVATION_RUN: ["ActivationRun", "ActivationRunConnection"],
  SAE: ["Sae", "SaeConnection"],
  CONCEPT: ["Concept", "ConceptConnection"],
  CONCEPT_CONFIG: ["ConceptConfig", "ConceptConfigConnection"],
  JOB: ["Job", "JobConnection"],
};

const KINDS = Object.keys(TYPENAMES) as NodeKind[];

/** Returns the types that a result shows, lists without entries and neurons without a name among them. */
export function typenamesIn(data: unknown, found: Set<string> = new Set()): Set<string> {
  if (Array.isArray(data)) {
    // Long lists of numbers and of strings name no type.
    if (typeof data[0] === "object") for (const entry of data) typenamesIn(entry, found);
  } else if (typeof data === "object" && data !== null) {
    for (const [key, value] of Object.entries(data)) {
      if (key === "__typename") found.add(String(value));
      else if (key === "concept") found.add("Concept");
      if (key !== "__typename") typenamesIn(value, found);
    }
  }
  return found;
}

/** Returns whether a result may be other than it was, now that something of a kind has changed. */
export function concerns(
  typenames: ReadonlySet<string>,
  kinds: ReadonlySet<NodeKind> | "everything",
): boolean {
  return (
    kinds === "everything" || [...kinds].some((kind) => TYPENAMES[kind].some((name) => typenames.has(name)))
  );
}

/** Returns of which kinds a mutation's result has something: what it has changed. */
export function kindsIn(data: unknown): Set<NodeKind> {
  const typenames = typenamesIn(data);
  return new Set(KINDS.filter((kind) => concerns(typenames, new Set([kind]))));
}

/**
 * A cache of queries' results. urql's own would ask all queries of a mutation's types again, those that run a
 * model among them; mutations go past it, and the invalidation asks again what they concern.
 */
export const queryCache: Exchange = (input) => (operations) => {
  const shared = share(operations);
  // With the types in their results, as the cache has it in those of queries.
  const mutations = pipe(
    shared,
    filter(isMutation),
    map((operation) =>
      makeOperation("mutation", { ...operation, query: formatDocument(operation.query) }, operation.context),
    ),
  );
  const past: Source<OperationResult>[] = [];
  const cached = cacheExchange({
    ...input,
    forward: (missing) => {
      const results = share(input.forward(merge([missing, mutations])));
      past.push(
        pipe(
          results,
          filter(({ operation }) => isMutation(operation)),
        ),
      );
      return pipe(
        results,
        filter(({ operation }) => !isMutation(operation)),
      );
    },
  })(
    pipe(
      shared,
      filter((operation) => !isMutation(operation)),
    ),
  );
  return merge([cached, ...past]);
};

function isMutation({ kind }: Operation): boolean {
  return kind === "mutation";
}

interface Asked {
  operation: Operation;
  /** Of its newest result. */
  typenames: Set<string>;
}

/** An exchange before the cache, and how to ask the queries on the page again which changes concern. */
export function createInvalidation(): {
  exchange: Exchange;
  invalidate: (kinds: ReadonlySet<NodeKind> | "everything") => void;
} {
  const active = new Map<number, Asked>();
  /** Results that are taken from the cache first: what they show, and which of them changes have concerned since. */
  const kept = new Map<number, Set<string>>();
  const outdated = new Set<number>();
  let reexecute = (_: Operation) => {};

  const invalidate = (kinds: ReadonlySet<NodeKind> | "everything") => {
    for (const [key, typenames] of kept) if (concerns(typenames, kinds)) outdated.add(key);
    for (const { operation, typenames } of [...active.values()]) {
      // What takes the server long does not change by itself; a page asks again where it wants to.
      if (isKept(operation) || !concerns(typenames, kinds)) continue;
      reexecute(newest(operation));
    }
  };
  const exchange: Exchange = ({ client, forward }) => {
    reexecute = client.reexecuteOperation;
    return (operations) =>
      pipe(
        operations,
        map((operation) => {
          const { key, kind } = operation;
          if (kind === "teardown") active.delete(key);
          if (kind !== "query" || active.has(key)) return operation;
          active.set(key, { operation, typenames: new Set() });
          return isKept(operation) && outdated.has(key) ? newest(operation) : operation;
        }),
        forward,
        tap(({ operation, data }) => {
          if (!data) return;
          if (operation.kind === "mutation") return invalidate(kindsIn(data));
          const typenames = typenamesIn(data);
          const entry = active.get(operation.key);
          if (!entry) return;
          entry.typenames = typenames;
          if (!isKept(entry.operation)) return;
          kept.set(operation.key, typenames);
          outdated.delete(operation.key);
        }),
      );
  };
  return { exchange, invalidate };
}

function isKept({ context }: Operation): boolean {
  return context.requestPolicy === "cache-first";
}

function newest(operation: Operation): Operation {
  return makeOperation("query", operation, { ...operation.context, requestPolicy: "network-only" });
}
