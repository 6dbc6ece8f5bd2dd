import { useMemo, useState } from "react";
import { useData } from "../../api/hooks";
import { refusalOf } from "../../api/problems";
import { Card } from "../../components/Card";
import { Checkbox } from "../../components/controls";
import { Empty } from "../../components/Empty";
import { ErrorBox } from "../../components/ErrorBox";
import { TokenText } from "../../components/TokenText";
import { HeatMap } from "./HeatMap";
import { mappedNeurons } from "./heatMap";
import { NeuronLink, neuronName } from "./NeuronLink";
import { PlayPageMapQueryDocument, PlayPageNeuronsQueryDocument } from "./PlayPage.generated";
import styles from "./PlayPage.module.css";
import { MAX_WATCHED, type PlaySettings, watchedOf, withEdit } from "./settings";
import { TokenNeurons } from "./TokenNeurons";
import type { Change } from "./usePlaySettings";

export interface Looked {
  prompt: string;
  chat: boolean;
}

/** Neurons that are shown at first, besides those that are edited or watched. */
const ROWS_AT_FIRST = 10;

interface NeuronMapCardProps {
  saeId: string;
  /** What the map is of: the prompt as it was when its neurons were asked for. */
  looked: Looked;
  settings: PlaySettings;
  change: Change;
  /** Asks for the neurons of the prompt as it is now. */
  onLook: () => void;
}

/** The neurons that fire most on the prompt, token by token, and those that are edited or watched. */
export function NeuronMapCard({ saeId, looked, settings, change, onLook }: NeuronMapCardProps) {
  const [isWhole, setWhole] = useState(false);
  const [perRow, setPerRow] = useState(false);
  const [picked, setPicked] = useState<number | null>(null);
  const ranking = useData(
    PlayPageNeuronsQueryDocument,
    { saeId, prompts: [looked.prompt] },
    { policy: "cache-first" },
  );
  const ranked = ranking.data?.topNeurons;
  const top = ranked?.__typename === "TopNeurons" ? ranked.prompts[0]?.neurons : undefined;
  const watched = watchedOf(settings);
  const indices = mappedNeurons(top?.map(({ neuron }) => neuron.index) ?? [], watched);
  const map = useData(
    PlayPageMapQueryDocument,
    { saeId, prompts: [looked.prompt], neuronIndices: indices, chat: looked.chat },
    { pause: !top || indices.length === 0, policy: "cache-first" },
  );
  const answered = map.data?.neuronActivations;
  const found = answered?.__typename === "NeuronActivations" ? answered.prompts[0] : undefined;
  // While another neuron is added, what is there stays.
  const [shown, setShown] = useState(found);
  if (found && found !== shown) setShown(found);
  const problem =
    (ranked && refusalOf(ranked)) ?? ranking.problem ?? (answered && refusalOf(answered)) ?? map.problem;
  const isOld = looked.prompt !== settings.prompt || looked.chat !== settings.chat;

  const rows = useMemo(() => {
    const chosen = watchedOf(settings);
    return shown?.rows
      .filter(({ neuron }, place) => isWhole || place < ROWS_AT_FIRST || chosen.includes(neuron.index))
      .map(({ neuron, values, max }) => ({
        index: neuron.index,
        name: neuronName(neuron),
        values,
        max,
        head: <RowHead {...{ saeId, neuron, change, settings }} />,
      }));
  }, [shown, isWhole, saeId, change, settings]);

  return (
    <Card
      title="Neurons of the prompt"
      aside={<Checkbox label="Scale each neuron by itself" value={perRow} onChange={setPerRow} />}
    >
      {isOld && (
        <p className={styles.notice}>
          This is of the prompt as it was before you changed it.{" "}
          <button type="button" onClick={onLook} disabled={settings.prompt === ""}>
            Find the neurons of the new one
          </button>
        </p>
      )}
      {looked.chat && (
        <p className="muted">
          The neurons are those that fire most on the text by itself; the map is of the whole chat.
        </p>
      )}
      {problem && <ErrorBox problem={problem} onRetry={ranking.problem ? ranking.reload : map.reload} />}
      {!problem && !shown && (!top || indices.length > 0) && (
        <p className="muted">Running the model… The first time it has to be loaded.</p>
      )}
      {top && indices.length === 0 && (
        <Empty>No neuron fires on this text: the SAE may leave out the first tokens.</Empty>
      )}
      {shown && rows && indices.length > 0 && !problem && (
        <>
          <TokenText
            tokens={shown.tokens}
            activations={shown.rows.find(({ neuron }) => neuron.index === watched[0])?.values}
            pick={{ label: "The prompt's tokens, choose one to see its neurons", picked, onPick: setPicked }}
          />
          <div className={styles.mapAndToken}>
            <div>
              <HeatMap tokens={shown.tokens} rows={rows} perRow={perRow} picked={picked} onPick={setPicked} />
              {!isWhole && rows.length < shown.rows.length && (
                <button type="button" onClick={() => setWhole(true)}>
                  Show all {shown.rows.length} neurons
                </button>
              )}
            </div>
            {picked !== null && shown.tokens[picked] ? (
              <TokenNeurons
                saeId={saeId}
                looked={looked}
                token={shown.tokens[picked]}
                place={picked}
                rows={shown.rows}
                onEdit={(index) => change((before) => withEdit(before, { index, multiplier: 1, bias: null }))}
              />
            ) : (
              <p className="muted">Choose a token or a cell to see the neurons that fire most there.</p>
            )}
          </div>
        </>
      )}
    </Card>
  );
}

interface RowHeadProps {
  saeId: string;
  neuron: Parameters<typeof NeuronLink>[0]["neuron"];
  settings: PlaySettings;
  change: Change;
}

function RowHead({ saeId, neuron, settings, change }: RowHeadProps) {
  const { index } = neuron;
  const isEdited = settings.edits.some((edit) => edit.index === index);
  const isWatched = settings.watch.includes(index);
  const edit = () =>
    change((before) =>
      isEdited
        ? { ...before, edits: before.edits.filter((one) => one.index !== index) }
        : withEdit(before, { index, multiplier: 1, bias: null }),
    );
  const watch = () =>
    change((before) => ({
      ...before,
      watch: isWatched ? before.watch.filter((one) => one !== index) : [...before.watch, index],
    }));
  return (
    <span className={styles.rowHead}>
      <span className={styles.rowName}>
        <NeuronLink saeId={saeId} neuron={neuron} />
      </span>
      <button
        type="button"
        className={styles.small}
        aria-pressed={isEdited}
        aria-label={`Edit #${index}`}
        onClick={edit}
      >
        Edit
      </button>
      <button
        type="button"
        className={styles.small}
        aria-pressed={isWatched}
        aria-label={`Watch #${index}`}
        disabled={!isWatched && settings.watch.length >= MAX_WATCHED}
        onClick={watch}
      >
        Watch
      </button>
    </span>
  );
}
