import { Link } from "wouter";
import type { Shared_NeuronNameFragment } from "../../api/Shared.generated";

interface NeuronLinkProps {
  saeId: string;
  neuron: Pick<Shared_NeuronNameFragment, "index" | "concept">;
}

/** A neuron's number and name; leads to its page. */
export function NeuronLink({ saeId, neuron }: NeuronLinkProps) {
  const { index, concept } = neuron;
  return (
    <Link href={`/saes/${saeId}/neurons/${index}`} title={concept?.name}>
      #{index}
      {concept && ` ${concept.name}`}
    </Link>
  );
}

/** Returns a neuron's number and name as text. */
export function neuronName({ index, concept }: NeuronLinkProps["neuron"]): string {
  return concept ? `#${index} ${concept.name}` : `#${index}`;
}
