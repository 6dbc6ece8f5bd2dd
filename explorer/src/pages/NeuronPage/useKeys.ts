import { useEffect, useRef } from "react";
import { useLocation } from "wouter";

/** Goes to addresses by single keys, but for those typed into a field. */
export function useKeys(keys: Record<string, string | null>): void {
  const [, navigate] = useLocation();
  const current = useRef(keys);
  current.current = keys;
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      const href = current.current[event.key];
      if (!href || event.ctrlKey || event.metaKey || event.altKey || isField(event.target)) return;
      event.preventDefault();
      navigate(href);
    };
    window.addEventListener("keydown", onKeyDown);
    return () => window.removeEventListener("keydown", onKeyDown);
  }, [navigate]);
}

function isField(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest("input, select, textarea, dialog") !== null;
}
