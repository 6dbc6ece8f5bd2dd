import type { CommandMenuQuery } from "./CommandMenu.generated";
import type { Place } from "./recentPlaces";

export interface Destination {
  href: string;
  label: string;
  /** What it is, such as "SAE". */
  kind: string;
}

/** Destinations under a title of their own. */
export interface Group {
  title: string;
  destinations: Destination[];
}

type Hit = CommandMenuQuery["search"][number];

/** Returns where a search hit leads. */
export function destinationOf(hit: Hit): Destination {
  switch (hit.__typename) {
    case "Sae":
      return { href: `/saes/${hit.id}`, label: hit.name, kind: "SAE" };
    case "Neuron": {
      const name = hit.concept?.name ?? "no name";
      return {
        href: `/saes/${hit.sae.id}/neurons/${hit.index}`,
        label: `#${hit.index} ${name}`,
        kind: `Neuron of ${hit.sae.name}`,
      };
    }
    case "Job":
      return { href: `/jobs/${hit.id}`, label: hit.title, kind: "Job" };
    case "LanguageModel":
      return { href: `/models/${hit.id}`, label: hit.name, kind: "Language model" };
    case "ActivationRun":
      return { href: `/runs/${hit.id}`, label: hit.name, kind: "Activation run" };
    case "StoredDataset":
      return { href: `/datasets?dataset=${hit.id}`, label: hit.name, kind: "Dataset" };
    case "ConceptConfig":
      return { href: `/saes/${hit.sae.id}/play?config=${hit.id}`, label: hit.name, kind: "Concept config" };
  }
}

/** Returns the SAE that an address is about, if any. */
export function saeOf(location: string): string | null {
  return /^\/saes\/([^/?#]+)/.exec(location)?.[1] ?? null;
}

/** Returns the neuron that `#1234` names, of the SAE that the address is about. */
export function neuronNamed(text: string, location: string): Destination | null {
  const index = /^#(\d{1,7})$/.exec(text.trim())?.[1];
  const sae = saeOf(location);
  if (index === undefined || !sae) return null;
  return {
    href: `/saes/${sae}/neurons/${Number(index)}`,
    label: `#${Number(index)}`,
    kind: "Neuron of this SAE",
  };
}

/** Returns each address once, in the place where it comes first: the server knows #1234, too. */
export function withoutTwins(destinations: readonly Destination[]): Destination[] {
  const seen = new Set<string>();
  return destinations.filter(({ href }) => !seen.has(href) && seen.add(href));
}

/** Returns what can be done about what a page shows. */
export function actionsAt(location: string): Destination[] {
  const sae = saeOf(location);
  if (!sae) return [];
  const neuron = /^\/saes\/[^/]+\/neurons\/(\d+)/.exec(location)?.[1];
  const actions = [
    ...(neuron === undefined
      ? []
      : [{ href: `/saes/${sae}/play?edits=${neuron}`, label: `Steer by neuron #${neuron}` }]),
    { href: `/saes/${sae}/play`, label: "Steer: open the playground" },
    { href: `/saes/${sae}/contrast`, label: "Contrast two sets of texts" },
    { href: `/compare?sae=${sae}`, label: "Compare with other SAEs" },
    { href: `/saes/${sae}`, label: "Show all neurons" },
    { href: `/saes/${sae}/concepts`, label: "Show all names" },
  ];
  return actions.filter(({ href }) => href !== location).map((action) => ({ ...action, kind: "This SAE" }));
}

/** Returns the places of a list whose title has the words. */
export function placesFor(text: string, places: readonly Place[], location: string): Destination[] {
  const words = text.trim().toLowerCase();
  return places
    .filter(({ href, title }) => href !== location && title.toLowerCase().includes(words))
    .map(({ href, title }) => ({ href, label: title, kind: "Recent" }));
}

const GROUPS: Record<Hit["__typename"], string> = {
  Neuron: "Neurons",
  Sae: "SAEs",
  LanguageModel: "Language models",
  ActivationRun: "Activation runs",
  StoredDataset: "Datasets",
  ConceptConfig: "Saved edits",
  Job: "Jobs",
};

/** Returns search hits by kind, the kinds in the order of their best hits. */
export function groupsOf(hits: readonly Hit[]): Group[] {
  const groups = new Map<string, Destination[]>();
  for (const hit of hits) {
    const title = GROUPS[hit.__typename];
    groups.set(title, [...(groups.get(title) ?? []), destinationOf(hit)]);
  }
  return [...groups].map(([title, destinations]) => ({ title, destinations }));
}

/** Returns the groups with each address in the place where it comes first, and without empty ones. */
export function withoutRepeats(groups: readonly Group[]): Group[] {
  const kept = new Set(withoutTwins(groups.flatMap(({ destinations }) => destinations)));
  return groups
    .map(({ title, destinations }) => ({ title, destinations: destinations.filter((one) => kept.has(one)) }))
    .filter(({ destinations }) => destinations.length > 0);
}
