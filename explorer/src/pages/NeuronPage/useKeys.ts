import { useEffect, useRef } from "react";
import { useLocation } from "wouter";

/** Goes to addresses, or does something, by single keys, but for those typed into a field. */
export function useKeys(keys: Record<string, string | (() => void) | null>): void {
  const [, navigate] = useLocation();
  const current = useRef(keys);
  current.current = keys;
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      const goal = current.current[event.key];
      if (!goal || event.ctrlKey || event.metaKey || event.altKey || isField(event.target)) return;
      event.preventDefault();
      if (typeof goal === "string") navigate(goal);
      else goal();
    };
    window.addEventListener("keydown", onKeyDown);
    return () => window.removeEventListener("keydown", onKeyDown);
  }, [navigate]);
}

function isField(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest("input, select, textarea, dialog") !== null;
}
