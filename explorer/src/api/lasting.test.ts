import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { lasting } from "./lasting";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function begun() {
  const ends: ((problem: string, passes: boolean) => void)[] = [];
  const stops = vi.fn();
  const onError = vi.fn();
  const stop = lasting<string>(
    (end) => {
      ends.push(end);
      return stops;
    },
    { waitMs: 5_000, onError },
  );
  return { ends, stops, onError, stop };
}

test("what passes is begun again, as often as it comes, and nobody is told", () => {
  const { ends, onError } = begun();
  ends[0]?.("closed", true);
  vi.advanceTimersByTime(4_999);
  expect(ends).toHaveLength(1);
  vi.advanceTimersByTime(1);
  expect(ends).toHaveLength(2);
  ends[1]?.("closed", true);
  vi.advanceTimersByTime(5_000);
  expect(ends).toHaveLength(3);
  expect(onError).not.toHaveBeenCalled();
});

test("what does not pass is told, and not begun again", () => {
  const { ends, onError } = begun();
  ends[0]?.("refused", false);
  vi.advanceTimersByTime(60_000);
  expect(onError).toHaveBeenCalledExactlyOnceWith("refused");
  expect(ends).toHaveLength(1);
});

test("what is stopped while it waits does not begin again", () => {
  const { ends, stops, stop } = begun();
  ends[0]?.("closed", true);
  stop();
  vi.advanceTimersByTime(60_000);
  expect(ends).toHaveLength(1);
  expect(stops).toHaveBeenCalled();
});
