import { useState } from "react";
import { useData } from "../../api/hooks";
import { refusalOf } from "../../api/problems";
import { type Column, DataTable } from "../../components/DataTable";
import { Empty } from "../../components/Empty";
import { ErrorBox } from "../../components/ErrorBox";
import { NumberText } from "../../components/NumberText";
import { precise } from "../../components/numbers";
import { Properties } from "../../components/Properties";
import { TokenText } from "../../components/TokenText";
import { nameOf } from "../../components/tokenPieces";
import { NeuronLink, neuronName } from "./NeuronLink";
import { type PlayPageWhyQuery, PlayPageWhyQueryDocument } from "./PlayPage.generated";
import styles from "./PlayPage.module.css";
import type { Edit } from "./settings";
import type { WhyAsked } from "./why";

type Attribution = Extract<PlayPageWhyQuery["attributeNeurons"], { __typename: "Attribution" }>;
type Attributed = Attribution["neurons"][number];

interface WhyResultProps {
  saeId: string;
  asked: WhyAsked;
  edits: readonly Edit[];
  onEdit: (edit: Edit) => void;
}

export function WhyResult({ saeId, asked, edits, onEdit }: WhyResultProps) {
  const { prompt, chat, target, contrast, place } = asked;
  const { data, problem, reload } = useData(
    PlayPageWhyQueryDocument,
    { saeId, prompt, chat, target, contrast },
    { policy: "cache-first" },
  );
  const answer = data?.attributeNeurons;
  const refused = (answer && refusalOf(answer)) ?? problem;
  if (refused) return <ErrorBox problem={refused} onRetry={reload} />;
  if (answer?.__typename !== "Attribution")
    return <p className="muted">Running the model, with gradients…</p>;
  return <Effects {...{ saeId, place, edits, onEdit }} attribution={answer} />;
}

interface EffectsProps {
  saeId: string;
  place: string;
  attribution: Attribution;
  edits: readonly Edit[];
  onEdit: (edit: Edit) => void;
}

function Effects({ saeId, place, attribution, edits, onEdit }: EffectsProps) {
  const { target, contrast, difference, neurons, tokens } = attribution;
  const [chosen, setChosen] = useState(neurons[0]?.neuron.index);
  const shown = neurons.find(({ neuron }) => neuron.index === chosen);
  const nats = (value: number) => <NumberText value={value} unit="nats" />;
  const columns: readonly Column<Attributed>[] = [
    { key: "neuron", title: "Neuron", cell: ({ neuron }) => <NeuronLink saeId={saeId} neuron={neuron} /> },
    {
      key: "effect",
      title: "By gradient",
      numeric: true,
      cell: ({ effect }) => <Effect value={effect} />,
    },
    {
      key: "ablation",
      title: "By ablation",
      numeric: true,
      cell: ({ ablationEffect }) => <Effect value={ablationEffect} />,
    },
    {
      key: "activation",
      title: "Strongest",
      numeric: true,
      cell: ({ activation, tokenIndex }) => (
        <>
          <NumberText value={activation} /> on {nameOf(tokens[tokenIndex] ?? { text: "" })}
        </>
      ),
    },
    {
      key: "next",
      title: "Next",
      cell: ({ neuron: { index } }) => (
        <RowButtons
          edit={edits.find((edit) => edit.index === index)}
          isChosen={index === chosen}
          onChoose={() => setChosen(index)}
          {...{ index, onEdit }}
        />
      ),
    },
  ];
  return (
    <div className={styles.group}>
      <h3>
        {nameOf(target)}
        {contrast && <> rather than {nameOf(contrast)}</>}, {place}
      </h3>
      <Properties
        of={[
          [`p of ${nameOf(target)}`, `${precise(100 * Math.exp(target.logProbability))}%`],
          ...(contrast
            ? ([
                [`p of ${nameOf(contrast)}`, `${precise(100 * Math.exp(contrast.logProbability))}%`],
                ["Difference of log p", nats(difference ?? 0)],
              ] as const)
            : []),
          ["All neurons", nats(attribution.neuronsEffect)],
          ["The SAE's error", nats(attribution.errorEffect)],
          ["Decoder's bias", nats(attribution.biasEffect)],
          ["Tokens left out", nats(attribution.leftOutEffect)],
        ]}
      />
      <DataTable
        caption="Neurons by their effect"
        columns={columns}
        rows={neurons}
        rowKey={({ neuron }) => neuron.id}
        empty={<Empty>No neuron has an effect on this token.</Empty>}
      />
      <p className="muted">
        Effects are on the log-probability, in nats. By gradient: an estimate. By ablation: what is lost when
        the neuron is turned off, measured for the strongest.
      </p>
      {shown && (
        <>
          <h3>Where {neuronName(shown.neuron)} has its effect</h3>
          <TokenText tokens={tokens} activations={shown.tokenEffects} unit="effect in nats" />
        </>
      )}
    </div>
  );
}

function Effect({ value }: { value: number | null }) {
  if (value === null) return <NumberText value={null} />;
  return (
    <span className={value > 0 ? styles.favors : styles.against}>
      {value > 0 && "+"}
      <NumberText value={value} />
    </span>
  );
}

interface RowButtonsProps {
  index: number;
  /** What is done to the neuron now. */
  edit: Edit | undefined;
  isChosen: boolean;
  onChoose: () => void;
  onEdit: (edit: Edit) => void;
}

function RowButtons({ index, edit, isChosen, onChoose, onEdit }: RowButtonsProps) {
  const isOff = edit?.multiplier === 0 && edit.bias === 0;
  const isEdited = edit !== undefined && !isOff;
  return (
    <span className={styles.rowButtons}>
      <button
        type="button"
        className={styles.small}
        aria-label={`Where #${index} has its effect`}
        aria-pressed={isChosen}
        onClick={onChoose}
      >
        Where
      </button>
      <button
        type="button"
        className={styles.small}
        aria-label={`Turn #${index} off`}
        aria-pressed={isOff}
        onClick={() => onEdit({ index, multiplier: 0, bias: 0 })}
      >
        Turn off
      </button>
      <button
        type="button"
        className={styles.small}
        aria-label={`Edit #${index}`}
        aria-pressed={isEdited}
        onClick={() => isEdited || onEdit({ index, multiplier: 1, bias: null })}
      >
        Edit
      </button>
    </span>
  );
}
