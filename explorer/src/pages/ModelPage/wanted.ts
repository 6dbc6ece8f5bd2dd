import type { ImportSaeInput } from "../../generated/types";
import type { ModelPagePublicSaesQuery } from "./ImportCard.generated";

export type PublicSae = ModelPagePublicSaesQuery["publicSaes"]["nodes"][number];

/** What importSae is asked for, without what is the same for all SAEs of a model. */
export type Wanted = Omit<ImportSaeInput, "languageModelId" | "idempotencyKey">;

const MAX_NAME = 200;

/** Returns where an SAE reads and, if it is a transcoder, writes. */
export function placeOf({ place, outputPlace }: PublicSae): string {
  return outputPlace ? `${place} to ${outputPlace}` : place;
}

/** Returns what takes a public SAE over. */
export function wantedOf({ repository, path, layer, inputScale, release, name }: PublicSae): Wanted {
  return {
    name: `${release} ${name}`.slice(0, MAX_NAME),
    source: { huggingFace: { repository, path } },
    ...(layer !== null && { layer }),
    ...(inputScale !== null && { inputScale }),
  };
}
