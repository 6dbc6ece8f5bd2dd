/** Returns where a neuron is steered, with the bias that it fires with at its strongest, and watched. */
export function playHref(saeId: string, index: number, bias: number | null): string {
  // Of a neuron that never fired nobody knows what is strong.
  const edits = `${index}:1:${Number((bias ?? 1).toPrecision(4))}`;
  return `/saes/${saeId}/play?edits=${edits}&watch=${index}`;
}
