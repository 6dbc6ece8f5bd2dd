import { useCallback, useEffect, useRef, useState } from "react";
import { useSearchParams } from "wouter";
import { linkable, type PlaySettings, settingsOf } from "./settings";

/** Browsers refuse addresses that change with each keystroke. */
const WRITE_AFTER_MS = 300;

export type Change = (change: (before: PlaySettings) => PlaySettings) => void;

/** The page's settings, which the address carries: a link elsewhere on the page or a step back is followed, too. */
export function usePlaySettings(): [PlaySettings, Change] {
  const [search, setSearch] = useSearchParams();
  const [settings, setSettings] = useState(() => settingsOf(search));
  const address = search.toString();
  const known = useRef(address);

  useEffect(() => {
    if (address === known.current) return;
    known.current = address;
    setSettings(settingsOf(new URLSearchParams(address)));
  }, [address]);
  useEffect(() => {
    const next = linkable(settings).search.toString();
    if (next === known.current) return;
    const timer = setTimeout(() => {
      known.current = next;
      setSearch(new URLSearchParams(next), { replace: true });
    }, WRITE_AFTER_MS);
    return () => clearTimeout(timer);
  }, [settings, setSearch]);
  return [settings, useCallback<Change>((change) => setSettings(change), [])];
}
