import { type Exchange, makeOperation, type Operation } from "urql";
import { pipe, tap } from "wonka";
import type { NodeKind } from "../generated/types";

const TYPENAMES: Record<NodeKind, readonly string[]> = {
  LANGUAGE_MODEL: ["LanguageModel", "Query"],
  STORED_DATASET: ["StoredDataset", "StoredDatasetConnection"],
  ACTIVATION_RUN: ["ActivationRun", "ActivationRunConnection"],
  SAE: ["Sae", "SaeConnection"],
  CONCEPT: ["Concept", "ConceptConnection", "Neuron"],
  CONCEPT_CONFIG: ["ConceptConfig", "ConceptConfigConnection"],
  JOB: ["Job", "JobConnection"],
};

/** Returns the types that a result shows, lists without entries among them. */
export function typenamesIn(data: unknown, found: Set<string> = new Set()): Set<string> {
  if (Array.isArray(data)) {
    // Long lists of numbers and of strings name no type.
    if (typeof data[0] === "object") for (const entry of data) typenamesIn(entry, found);
  } else if (typeof data === "object" && data !== null) {
    for (const [key, value] of Object.entries(data)) {
      if (key === "__typename") found.add(String(value));
      else typenamesIn(value, found);
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

/** An exchange before the cache, and how to ask the queries on the page again which changes concern. */
export function createInvalidation(): {
  exchange: Exchange;
  invalidate: (kinds: ReadonlySet<NodeKind> | "everything") => void;
} {
  const active = new Map<number, { operation: Operation; typenames: Set<string> }>();
  let reexecute = (_: Operation) => {};
  const exchange: Exchange = ({ client, forward }) => {
    reexecute = client.reexecuteOperation;
    return (operations) =>
      pipe(
        operations,
        tap((operation) => {
          if (operation.kind === "teardown") active.delete(operation.key);
          else if (operation.kind === "query" && !active.has(operation.key)) {
            active.set(operation.key, { operation, typenames: new Set() });
          }
        }),
        forward,
        tap(({ operation, data }) => {
          const entry = active.get(operation.key);
          if (entry && data) entry.typenames = typenamesIn(data);
        }),
      );
  };
  const invalidate = (kinds: ReadonlySet<NodeKind> | "everything") => {
    for (const { operation, typenames } of [...active.values()]) {
      // What takes the server long does not change by itself; a page asks again where it wants to.
      if (operation.context.requestPolicy === "cache-first" || !concerns(typenames, kinds)) continue;
      reexecute(makeOperation("query", operation, { ...operation.context, requestPolicy: "network-only" }));
    }
  };
  return { exchange, invalidate };
}
