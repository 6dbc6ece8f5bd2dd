import { Card } from "../../components/Card";
import { whole } from "../../components/numbers";
import { Texts } from "../DatasetsPage/Texts";
import type { RunPageQuery } from "./RunPage.generated";

const PAGE = 10;

interface RunTextsProps {
  dataset: NonNullable<RunPageQuery["activationRun"]>["dataset"];
  offset: number;
  /** The texts are those of the offset before. */
  loading: boolean;
  onOffset: (offset: number) => void;
}

/** The texts that were run through the model, ten at a time. */
export function RunTexts({ dataset, offset, loading, onOffset }: RunTextsProps) {
  const { texts, sampleCount } = dataset;
  const isLast = sampleCount !== null ? offset + PAGE >= sampleCount : (texts?.length ?? 0) < PAGE;
  return (
    <Card
      title="Texts"
      aside={sampleCount !== null && <span className="muted">{whole(sampleCount)} in all</span>}
    >
      {loading ? (
        <p className="muted">Loading…</p>
      ) : texts ? (
        <Texts label="Texts" texts={texts} offset={offset} />
      ) : (
        <p className="muted">Its texts are not there (yet).</p>
      )}
      <div className="row">
        <button type="button" disabled={offset === 0} onClick={() => onOffset(Math.max(0, offset - PAGE))}>
          Earlier
        </button>
        <button type="button" disabled={isLast} onClick={() => onOffset(offset + PAGE)}>
          Later
        </button>
      </div>
    </Card>
  );
}
