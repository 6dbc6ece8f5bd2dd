import { useCallback, useEffect, useRef, useState } from "react";
import { onceSubscriber } from "../../api/socket";
import { ASKED, afterEnd, afterEvent, afterFailure, afterStop, type RunState } from "./generationRun";
import { PlayPageSubscriptionDocument } from "./PlayPage.generated";
import { inputOf, type PlaySettings } from "./settings";

/** How many runs can be compared. */
const MAX_RUNS = 10;

const subscribe = onceSubscriber(PlayPageSubscriptionDocument);

export interface Run {
  number: number;
  settings: PlaySettings;
  state: RunState;
}

export interface Generation {
  /** Newest first; the newest one may be under way. */
  runs: readonly Run[];
  start: (settings: PlaySettings) => void;
  stop: () => void;
}

/** Generates, one run at a time, and keeps the last few for as long as the page is open. */
export function useGeneration(saeId: string): Generation {
  const [runs, setRuns] = useState<readonly Run[]>([]);
  const count = useRef(0);
  const end = useRef<(() => void) | null>(null);

  const change = useCallback((number: number, next: (state: RunState) => RunState) => {
    setRuns((before) =>
      before.map((run) => (run.number === number ? { ...run, state: next(run.state) } : run)),
    );
  }, []);
  const stop = useCallback(() => {
    // Before its end, which would be taken for that of a complete run.
    change(count.current, afterStop);
    end.current?.();
    end.current = null;
  }, [change]);
  const start = useCallback(
    (settings: PlaySettings) => {
      stop();
      count.current += 1;
      const number = count.current;
      setRuns((before) => [{ number, settings, state: ASKED }, ...before].slice(0, MAX_RUNS));
      end.current = subscribe(() => ({ input: inputOf(saeId, settings) }), {
        next: ({ generation }) => change(number, (state) => afterEvent(state, generation)),
        error: (problem) => change(number, (state) => afterFailure(state, problem)),
        complete: () => change(number, afterEnd),
      });
    },
    [saeId, change, stop],
  );
  useEffect(() => () => end.current?.(), []);
  return { runs, start, stop };
}
