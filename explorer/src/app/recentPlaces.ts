/** A page that was looked at. */
export interface Place {
  href: string;
  title: string;
}

const NAME = "recent-places";
const MAX_PLACES = 12;

/** Returns the places with one put first; each is there once, under its newest title. */
export function withPlace(places: readonly Place[], place: Place): Place[] {
  return [place, ...places.filter(({ href }) => href !== place.href)].slice(0, MAX_PLACES);
}

function isPlace(value: unknown): value is Place {
  const { href, title } = (value ?? {}) as Partial<Place>;
  return typeof href === "string" && typeof title === "string";
}

/** Returns the places last looked at, in any tab, newest first. */
export function recentPlaces(): Place[] {
  try {
    const kept: unknown = JSON.parse(window.localStorage.getItem(NAME) ?? "[]");
    return Array.isArray(kept) ? kept.filter(isPlace) : [];
  } catch {
    return []; // The browser keeps nothing, or what it keeps is not ours.
  }
}

export function remember(place: Place): void {
  try {
    window.localStorage.setItem(NAME, JSON.stringify(withPlace(recentPlaces(), place)));
  } catch {
    // Without it there are no recent places, and nothing else is missed.
  }
}
