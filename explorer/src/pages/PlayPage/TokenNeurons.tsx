import { useData } from "../../api/hooks";
import { refusalOf } from "../../api/problems";
import { ErrorBox } from "../../components/ErrorBox";
import { precise } from "../../components/numbers";
import { nameOf, type Token } from "../../components/tokenPieces";
import { NeuronLink } from "./NeuronLink";
import type { Looked } from "./NeuronMapCard";
import {
  PlayPageEditedQueryDocument,
  type PlayPageMapQuery,
  PlayPageTokensQueryDocument,
} from "./PlayPage.generated";
import styles from "./PlayPage.module.css";

type Rows = Extract<
  PlayPageMapQuery["neuronActivations"],
  { __typename: "NeuronActivations" }
>["prompts"][number]["rows"];

interface TokenNeuronsProps {
  saeId: string;
  looked: Looked;
  token: Token;
  place: number;
  /** Of the map: all that is known of a chat's tokens. */
  rows: Rows;
  onEdit: (index: number) => void;
}

/** The neurons that fire most on one token. */
export function TokenNeurons({ saeId, looked, token, place, rows, onEdit }: TokenNeuronsProps) {
  const { data, problem } = useData(
    PlayPageTokensQueryDocument,
    { saeId, prompts: [looked.prompt] },
    { policy: "cache-first", pause: looked.chat },
  );
  const answer = data?.topNeurons;
  const refused = (answer && refusalOf(answer)) ?? problem;
  const ranked =
    answer?.__typename === "TopNeurons" ? answer.prompts[0]?.perToken[place]?.neurons : undefined;
  const mapped = rows
    .map(({ neuron, values }) => ({ neuron, activation: values[place] ?? 0 }))
    .filter(({ activation }) => activation > 0)
    .sort((a, b) => b.activation - a.activation);
  const neurons = looked.chat || refused ? mapped : ranked;
  // What they raise would cost too much of all tokens' neurons.
  const indices = neurons?.map(({ neuron }) => neuron.index) ?? [];
  const labels = useData(
    PlayPageEditedQueryDocument,
    { saeId, indices },
    { policy: "cache-first", pause: indices.length === 0 },
  );
  const labeled = new Map(labels.data?.sae?.neurons.nodes.map((neuron) => [neuron.index, neuron]));
  return (
    <section aria-label={`Neurons on ${nameOf(token)}`} className={styles.group}>
      <h3>
        On token {place + 1}, {nameOf(token)}
        {neurons === mapped && <span className="muted"> among those of the map</span>}
      </h3>
      {refused && <ErrorBox problem={refused} />}
      {!neurons && <p className="muted">Running the model…</p>}
      {neurons?.length === 0 && <p className="muted">No neuron fires here.</p>}
      <ul className={styles.tokenNeurons}>
        {neurons?.map(({ neuron, activation }) => (
          <li key={neuron.index}>
            <span>
              <NeuronLink saeId={saeId} neuron={labeled.get(neuron.index) ?? neuron} />
            </span>
            <span>{precise(activation)}</span>
            <button
              type="button"
              className={styles.small}
              aria-label={`Edit #${neuron.index}`}
              onClick={() => onEdit(neuron.index)}
            >
              Edit
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
