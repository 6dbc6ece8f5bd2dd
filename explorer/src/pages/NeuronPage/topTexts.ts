/** As many top texts come with a neuron's page. */
export const FIRST = 10;
/** The API gives no more at once. */
const MOST = 100;

/** Returns how many texts to ask for where the index may have more than are shown; null where it has not. */
export function furtherTexts(shown: number, kept: number): number | null {
  return shown >= FIRST && kept > shown ? Math.min(MOST, kept) : null;
}
