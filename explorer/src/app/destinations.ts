import type { CommandMenuQuery } from "./CommandMenu.generated";

export interface Destination {
  href: string;
  label: string;
  /** What it is, such as "SAE". */
  kind: string;
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
