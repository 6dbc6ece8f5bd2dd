import { useState } from "react";
import { Link } from "wouter";
import { useData } from "../../api/hooks";
import { Card } from "../../components/Card";
import { ErrorBox } from "../../components/ErrorBox";
import { whole } from "../../components/numbers";
import { DatasetsPageTextsQueryDocument } from "./DatasetsPage.generated";
import { Texts } from "./Texts";

const PAGE = 10;

/** The texts of a stored dataset, ten at a time. */
export function StoredTexts({ id, onClose }: { id: string; onClose: () => void }) {
  const [offset, setOffset] = useState(0);
  const { data, problem, loading, reload } = useData(DatasetsPageTextsQueryDocument, { id, offset });
  const dataset = data?.dataset;
  const count = dataset?.sampleCount ?? 0;
  return (
    <Card
      title={dataset ? `Texts of ${dataset.name}` : "Texts"}
      aside={
        <button type="button" onClick={onClose}>
          Close
        </button>
      }
    >
      {problem && <ErrorBox problem={problem} onRetry={reload} />}
      {loading && <p className="muted">Loading…</p>}
      {data && !dataset && <p className="muted">There is no such dataset; it may have been deleted.</p>}
      {dataset?.preview === null && <p className="muted">Its texts are gone from the server's disk.</p>}
      {dataset?.preview && !loading && <Texts label="Texts" texts={dataset.preview} offset={offset} />}
      {dataset && (
        <div className="row">
          <button type="button" disabled={offset === 0} onClick={() => setOffset(offset - PAGE)}>
            Earlier
          </button>
          <button type="button" disabled={offset + PAGE >= count} onClick={() => setOffset(offset + PAGE)}>
            Later
          </button>
          <span className="muted">
            {whole(offset)} to {whole(Math.min(count, offset + PAGE) - 1)} of {whole(count)}
          </span>
          <Link href={`/capture?data=${dataset.id}`} className="button primary">
            Capture activations on it
          </Link>
        </div>
      )}
    </Card>
  );
}
