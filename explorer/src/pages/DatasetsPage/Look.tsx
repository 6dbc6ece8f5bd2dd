import { compact, whole } from "../../components/numbers";
import { Texts } from "./Texts";
import type { UploadForm_PreviewFragment } from "./UploadForm.generated";

/** What the beginning of a dataset tells: how many texts, how long, the first of them. */
export function Look({ found }: { found: UploadForm_PreviewFragment }) {
  const { columns, texts, sampleCount, meanTokenCount, problem } = found;
  return (
    <div className="stack">
      <p>
        {sampleCount !== null && `${whole(sampleCount)} texts. `}
        {meanTokenCount !== null && `About ${compact(Math.round(meanTokenCount))} tokens a text. `}
        {columns.length > 0 && <span className="muted">Columns: {columns.join(", ")}</span>}
      </p>
      {problem && <p role="alert">{problem}</p>}
      {texts.length > 0 && <Texts label="First texts" texts={texts} />}
    </div>
  );
}
