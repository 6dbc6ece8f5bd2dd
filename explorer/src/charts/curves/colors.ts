const HUES = 5;
/** Of the canvas, in pixels: whole, dashed, dotted, both. With the hues that tells twenty lines apart. */
const DASHES: readonly (readonly number[])[] = [[], [8, 4], [2, 3], [10, 3, 2, 3]];

export interface Palette {
  text: string;
  grid: string;
  series: readonly string[];
}

/** Returns the theme's colors as they are now, for a canvas. */
export function currentPalette(): Palette {
  const style = getComputedStyle(document.documentElement);
  const color = (name: string) => style.getPropertyValue(name).trim();
  return {
    text: color("--muted"),
    grid: color("--border"),
    series: Array.from({ length: HUES }, (_, index) => color(`--series-${index + 1}`)),
  };
}

/** Calls back when the system's choice of light or dark changes. Returns how to stop. */
export function onSchemeChange(changed: () => void): () => void {
  const query = window.matchMedia("(prefers-color-scheme: dark)");
  query.addEventListener("change", changed);
  return () => query.removeEventListener("change", changed);
}

export function hueOf(place: number): number {
  return place % HUES;
}

export function dashesOf(place: number): readonly number[] {
  return DASHES[Math.floor(place / HUES) % DASHES.length] ?? [];
}
