interface Options<Problem> {
  /** Before it begins again. */
  waitMs: number;
  onError: (problem: Problem) => void;
}

/**
 * Begins something that may end with a problem, and begins it again where that one passes, until it is stopped.
 * `begin` gets what to call at such an end, and returns how to stop.
 */
export function lasting<Problem>(
  begin: (end: (problem: Problem, passes: boolean) => void) => () => void,
  { waitMs, onError }: Options<Problem>,
): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stop = () => {};
  const start = () => {
    stop = begin((problem, passes) => {
      if (passes) timer = setTimeout(start, waitMs);
      else onError(problem);
    });
  };
  start();
  return () => {
    clearTimeout(timer);
    stop();
  };
}
