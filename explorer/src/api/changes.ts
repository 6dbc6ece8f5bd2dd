import type { NodeKind } from "../generated/types";
import { ChangesSubscriptionDocument } from "./Changes.generated";
import { invalidate } from "./client";
import { connection, subscriber } from "./socket";

/** Many rows change at once when a job ends. */
const COLLECT_MS = 250;

const subscribe = subscriber(ChangesSubscriptionDocument);

/** Keeps what the page shows true while others change it. Returns how to stop. */
export function followChanges(): () => void {
  let collected = new Set<NodeKind>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const flush = () => {
    timer = undefined;
    invalidate(collected);
    collected = new Set();
  };
  const stop = subscribe(() => ({}), {
    next: ({ changes: { change, kind } }) => {
      if (change === "RELOAD") {
        // The first connection begins as the page's first queries do; those need not be asked twice.
        if (connection.get().epoch > 1) invalidate("everything");
      } else if (kind) {
        collected.add(kind);
        timer ??= setTimeout(flush, COLLECT_MS);
      }
    },
  });
  return () => {
    clearTimeout(timer);
    stop();
  };
}
