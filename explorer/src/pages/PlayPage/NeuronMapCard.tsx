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
import { neuronName } from "./NeuronLink";
import { PlayPageMapQueryDocument, PlayPageNeuronsQueryDocument } from "./PlayPage.generated";
import styles from "./PlayPage.module.css";
import { RankingFields } from "./RankingFields";
import { RowHead } from "./RowHead";
import { ranked } from "./ranking";
import { type PlaySettings, watchedOf, withEdit } from "./settings";
import { TokenNeurons } from "./TokenNeurons";
import type { Change } from "./usePlaySettings";

export interface Looked {
  prompt: string;
  chat: boolean;
}

/** Neurons of the prompt that the map has, besides those that are edited or watched. */
const MAPPED = 20;
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
  const answer = ranking.data?.topNeurons;
  const all = answer?.__typename === "TopNeurons" ? answer.prompts[0]?.neurons : undefined;
  const top = all && ranked(all, settings.ranking, MAPPED);
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
    (answer && refusalOf(answer)) ?? ranking.problem ?? (answered && refusalOf(answered)) ?? map.problem;
  const isOld = looked.prompt !== settings.prompt || looked.chat !== settings.chat;

  // What a slider or a keystroke changes does not draw the map anew: which neurons are edited and watched does.
  const edited = settings.edits.map(({ index }) => index).join();
  const watching = settings.watch.join();
  const rows = useMemo(() => {
    const isEdited = new Set(edited.split(","));
    const isWatched = new Set(watching.split(","));
    return shown?.rows
      .map(({ neuron, values, max }) => {
        const key = String(neuron.index);
        const marks = { isEdited: isEdited.has(key), isWatched: isWatched.has(key) };
        return {
          index: neuron.index,
          name: neuronName(neuron),
          values,
          max,
          head: <RowHead {...{ saeId, neuron, change }} {...marks} />,
          ...marks,
        };
      })
      .filter((row, place) => isWhole || place < ROWS_AT_FIRST || row.isEdited || row.isWatched);
  }, [shown, isWhole, saeId, change, edited, watching]);

  return (
    <Card
      title="Neurons of the prompt"
      aside={<Checkbox label="Scale each neuron by itself" value={perRow} onChange={setPerRow} />}
    >
      <RankingFields
        ranking={settings.ranking}
        onChange={(chosen) => change((before) => ({ ...before, ranking: chosen }))}
        hidden={
          all && settings.ranking.hidesDense
            ? all.length - ranked(all, settings.ranking, all.length).length
            : 0
        }
      />
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
        <Empty>
          {all?.length === 0
            ? "No neuron fires on this text: the SAE may leave out the first tokens."
            : "All neurons that fire on this text are hidden."}
        </Empty>
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
                tokenCount={shown.tokens.length}
                ranking={settings.ranking}
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
