import { Link } from "wouter";
import { precise } from "../../components/numbers";
import { Properties, type Property } from "../../components/Properties";
import { plain } from "../../components/words";
import type { JobPageQuery } from "./JobPage.generated";

type Request = NonNullable<JobPageQuery["job"]>["request"];

const LABELS: Record<string, string> = {
  languageModel: "Language model",
  saeClass: "SAE class",
  latentCount: "Neurons",
  sampleOffset: "First text",
  sampleLimit: "Texts",
  maxLength: "Tokens of a text",
  learningRate: "Learning rate",
  l1Lambda: "L1 coefficient",
  batchSize: "Batch size",
  dtype: "Number format",
  longTexts: "Long texts",
  topTextsPerNeuron: "Top texts per neuron",
  excludeFirstPositions: "Excluded first positions",
  sourceFormat: "Format",
  sae: "SAE",
};

function titled(key: string): string {
  return LABELS[key] ?? key.charAt(0).toUpperCase() + key.slice(1);
}

/** Returns a value of a request as it is shown; null where there is nothing to show. */
function shown(key: string, value: unknown) {
  if (value === null || value === undefined) return null;
  if (key === "seed") return String(value);
  if (typeof value === "number") return precise(value);
  if (typeof value === "string") return /^[A-Z0-9_]+$/.test(value) ? plain(value) : value;
  if (Array.isArray(value)) return value.join(", ");
  if (typeof value !== "object") return String(value);
  if ("description" in value) return String(value.description);
  if (!("name" in value && "id" in value)) return null;
  return key === "sae" ? <Link href={`/saes/${value.id}`}>{String(value.name)}</Link> : String(value.name);
}

export function JobRequest({ request }: { request: Request }) {
  const properties: Property[] = Object.entries(request).flatMap(([key, value]) => {
    const content = key === "__typename" ? null : shown(key, value);
    return content === null ? [] : [[titled(key), content] as const];
  });
  return <Properties of={properties} />;
}
