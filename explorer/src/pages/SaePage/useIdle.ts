import { useEffect, useState } from "react";

const AT_LATEST_MS = 1_500;

/** Returns whether the browser has had a moment since the page was shown. */
export function useIdle(): boolean {
  const [isIdle, setIdle] = useState(false);
  useEffect(() => whenIdle(() => setIdle(true)), []);
  return isIdle;
}

/** Does something in a quiet moment. Returns how to call it off. */
export function whenIdle(act: () => void): () => void {
  // Safari has no such callback.
  if (!("requestIdleCallback" in window)) {
    const timer = setTimeout(act, 100);
    return () => clearTimeout(timer);
  }
  const handle = requestIdleCallback(act, { timeout: AT_LATEST_MS });
  return () => cancelIdleCallback(handle);
}
