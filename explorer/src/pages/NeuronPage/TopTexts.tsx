import { useData } from "../../api/hooks";
import { ErrorBox } from "../../components/ErrorBox";
import { LaunchIndex } from "../SaePage/LaunchIndex";
import type { NeuronShown } from "./Neuron";
import { NeuronPageTopTextsQueryDocument } from "./NeuronPage.generated";
import type { Shown } from "./ShownText";
import { TextList } from "./TextList";
import { FIRST, furtherTexts } from "./topTexts";

interface TopTextsProps {
  neuron: NeuronShown;
  saeId: string;
  /** How many the index keeps of a neuron. */
  kept: number;
  shown: Shown;
  /** Whether to show all that the index keeps, not only the first ones. */
  isWhole: boolean;
  onWhole: (isWhole: boolean) => void;
}

/** Texts on which it fires most: the first ones, and all that the index keeps on demand. */
export function TopTexts({ neuron, saeId, kept, shown, isWhole, onWhole }: TopTextsProps) {
  const { topTexts, dead, index } = neuron;
  const first = furtherTexts(topTexts?.length ?? 0, kept);
  const { data, problem, reload } = useData(
    NeuronPageTopTextsQueryDocument,
    { saeId, index, first: first ?? 1 },
    { pause: !isWhole || first === null },
  );
  if (!topTexts || topTexts.length === 0) {
    return (
      <p className="muted">{dead ? "It fired on no text of the index." : "The index has no texts of it."}</p>
    );
  }
  const more = isWhole && first !== null ? data?.neuron?.topTexts : undefined;
  return (
    <>
      <TextList texts={more ?? topTexts} shown={shown} />
      {isWhole && problem && <ErrorBox problem={problem} onRetry={reload} />}
      {first !== null && (
        <p>
          <button type="button" onClick={() => onWhole(!isWhole)}>
            {isWhole ? (more || problem ? "Show fewer" : "Loading…") : `Show up to ${first}`}
          </button>
        </p>
      )}
      {topTexts.length >= FIRST && first === null && (
        <details>
          <summary>Keep more texts</summary>
          <p className="muted">The index keeps {kept} of each neuron; a new one can keep more.</p>
          <LaunchIndex saeId={saeId} label="Index the neurons again" isOpen />
        </details>
      )}
    </>
  );
}
