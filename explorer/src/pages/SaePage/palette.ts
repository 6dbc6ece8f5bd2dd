import { useEffect, useState } from "react";

export type Rgb = readonly [red: number, green: number, blue: number];

/** Colors of a chart on canvas, as the theme has them. */
export interface Palette {
  surface: Rgb;
  border: Rgb;
  text: Rgb;
  low: Rgb;
  middle: Rgb;
  high: Rgb;
}

/** Reads #rrggbb, or #rgb: a build shortens the former where it can. */
export function rgbOf(text: string): Rgb {
  const digits = text.trim().slice(1);
  const value = Number.parseInt(digits.length === 3 ? digits.replace(/./g, "$&$&") : digits, 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

function themeColor(name: string): Rgb {
  return rgbOf(getComputedStyle(document.documentElement).getPropertyValue(name));
}

function paletteNow(): Palette {
  return {
    surface: themeColor("--surface"),
    border: themeColor("--border"),
    text: themeColor("--text"),
    low: themeColor("--border-strong"),
    middle: themeColor("--accent"),
    high: themeColor("--series-2"),
  };
}

/** The theme's colors; others when the system turns light or dark. */
export function usePalette(): Palette {
  const [palette, setPalette] = useState(paletteNow);
  useEffect(() => {
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    const change = () => setPalette(paletteNow());
    dark.addEventListener("change", change);
    return () => dark.removeEventListener("change", change);
  }, []);
  return palette;
}

function mixed(one: Rgb, other: Rgb, share: number): Rgb {
  const of = (place: 0 | 1 | 2) => Math.round(one[place] + (other[place] - one[place]) * share);
  return [of(0), of(1), of(2)];
}

/** Returns the color of a share from 0 to 1, over two or more colors. */
export function ramp(colors: readonly Rgb[], share: number): Rgb {
  const place = Math.min(1, Math.max(0, share)) * (colors.length - 1);
  const first = Math.min(colors.length - 2, Math.floor(place));
  return mixed(colors[first] ?? [0, 0, 0], colors[first + 1] ?? [0, 0, 0], place - first);
}

/** Returns a color as ImageData has it on a little-endian machine. */
export function pixel([red, green, blue]: Rgb): number {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

export function css([red, green, blue]: Rgb): string {
  return `rgb(${red} ${green} ${blue})`;
}
