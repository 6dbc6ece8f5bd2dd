import { Link } from "wouter";
import type { Shared_NeuronNameFragment } from "../../api/Shared.generated";
import { Raised } from "../../components/Raised";

interface NeuronLinkProps {
  saeId: string;
  neuron: Pick<Shared_NeuronNameFragment, "index" | "concept"> & {
    /** What it raises tells a neuron without a name from others. */
    promotedTokens?: readonly { token: string }[] | null;
  };
}

/** A neuron's number and name, or the tokens that it raises most; leads to its page. */
export function NeuronLink({ saeId, neuron }: NeuronLinkProps) {
  const { index, concept, promotedTokens } = neuron;
  return (
    <>
      <Link href={`/saes/${saeId}/neurons/${index}`} title={concept?.name}>
        #{index}
        {concept && ` ${concept.name}`}
      </Link>
      {!concept && <Raised tokens={promotedTokens} />}
    </>
  );
}

/** Returns a neuron's number and name as text. */
export function neuronName({ index, concept }: NeuronLinkProps["neuron"]): string {
  return concept ? `#${index} ${concept.name}` : `#${index}`;
}
