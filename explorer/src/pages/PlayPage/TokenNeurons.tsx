import { useData } from "../../api/hooks";
import { refusalOf } from "../../api/problems";
import { ErrorBox } from "../../components/ErrorBox";
import { percent, precise } from "../../components/numbers";
import { nameOf, type Token } from "../../components/tokenPieces";
import { NeuronLink } from "./NeuronLink";
import type { Looked } from "./NeuronMapCard";
import {
  PlayPageEditedQueryDocument,
  type PlayPageMapQuery,
  PlayPageTokensQueryDocument,
} from "./PlayPage.generated";
import styles from "./PlayPage.module.css";
import { neededPerToken, type Ranking, ranked, rankedOnToken, relativeOf } from "./ranking";

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
  tokenCount: number;
  ranking: Ranking;
  onEdit: (index: number) => void;
}

/** The neurons that fire most on one token. */
export function TokenNeurons(props: TokenNeuronsProps) {
  const { saeId, looked, token, place, rows, tokenCount, ranking, onEdit } = props;
  const { data, problem } = useData(
    PlayPageTokensQueryDocument,
    { saeId, prompts: [looked.prompt], first: neededPerToken(ranking, tokenCount) },
    { policy: "cache-first", pause: looked.chat },
  );
  const answer = data?.topNeurons;
  const refused = (answer && refusalOf(answer)) ?? problem;
  const found = answer?.__typename === "TopNeurons" ? answer.prompts[0]?.perToken[place]?.neurons : undefined;
  const mapped = rows
    .map(({ neuron, values }) => ({ neuron, activation: values[place] ?? 0 }))
    .filter(({ activation }) => activation > 0)
    .sort((a, b) => b.activation - a.activation);
  const shownOfMap = ranked(mapped, ranking, mapped.length);
  const neurons = looked.chat || refused ? shownOfMap : found && rankedOnToken(found, ranking);
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
        {neurons === shownOfMap && <span className="muted"> among those of the map</span>}
      </h3>
      {ranking.order === "relative" && (
        <p className="muted">Activations, and their shares of the neurons' own maxima.</p>
      )}
      {refused && <ErrorBox problem={refused} />}
      {!neurons && <p className="muted">Running the model…</p>}
      {neurons?.length === 0 && <p className="muted">No neuron fires here.</p>}
      <ul className={styles.tokenNeurons}>
        {neurons?.map(({ neuron, activation }) => (
          <li key={neuron.index}>
            <span>
              <NeuronLink
                saeId={saeId}
                neuron={labeled.get(neuron.index) ?? { index: neuron.index, concept: null }}
              />
            </span>
            <span>
              {precise(activation)}
              {ranking.order === "relative" && <Relative of={relativeOf({ activation, neuron })} />}
            </span>
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

function Relative({ of }: { of: number | null }) {
  if (of === null) return null;
  return (
    <span className="muted" title="of its own maximum">
      {" "}
      {percent(Number(of.toPrecision(2)))}
    </span>
  );
}
