import { type RefObject, useEffect, useRef, useState } from "react";

/** A finer picture than this costs time, and nobody sees it. */
const MAX_RATIO = 2;

interface CanvasSize {
  ref: RefObject<HTMLCanvasElement | null>;
  /** Pixels of the page. */
  width: number;
  height: number;
  /** Pixels of the screen for one of the page. */
  ratio: number;
}

/** A canvas and the size that the layout gives it. */
export function useCanvasSize(): CanvasSize {
  const ref = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  useEffect(() => {
    const element = ref.current;
    if (!element) return;
    const observer = new ResizeObserver(() =>
      setSize({ width: element.clientWidth, height: element.clientHeight }),
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return { ref, ...size, ratio: Math.min(MAX_RATIO, window.devicePixelRatio) };
}
