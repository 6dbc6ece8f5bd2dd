import { useData } from "../../api/hooks";
import { type Problem, refusalOf } from "../../api/problems";
import { ErrorBox } from "../../components/ErrorBox";
import { type DatasetChoice, inputOf, isComplete } from "./datasetChoice";
import { Look } from "./Look";
import { type UploadForm_PreviewFragment, UploadFormPreviewQueryDocument } from "./UploadForm.generated";

interface DatasetLookAnswer {
  found: UploadForm_PreviewFragment | null;
  problem: Problem | null;
  loading: boolean;
  reload: () => void;
}

/** Looks at a chosen dataset. Those of the Hub are not here before a capture has got them. */
export function useDatasetLook(choice: DatasetChoice, languageModelId: string | null): DatasetLookAnswer {
  const pause = choice.kind === "hub" || !isComplete(choice);
  const { data, problem, loading, reload } = useData(
    UploadFormPreviewQueryDocument,
    { dataset: inputOf(choice), languageModelId },
    { pause, policy: "cache-first" },
  );
  if (pause || !data) return { found: null, problem, loading, reload };
  const result = data.datasetPreview;
  if (result.__typename === "DatasetPreview") return { found: result, problem, loading, reload };
  return { found: null, problem: refusalOf(result), loading, reload };
}

/** What a chosen dataset begins with. */
export function DatasetLook({ choice, answer }: { choice: DatasetChoice; answer: DatasetLookAnswer }) {
  const { found, problem, loading, reload } = answer;
  if (choice.kind === "hub") {
    return (
      <p className="muted">
        The server gets a dataset of the Hub when it captures; until then its texts cannot be shown here.
      </p>
    );
  }
  if (problem) return <ErrorBox problem={problem} onRetry={reload} />;
  if (found) return <Look found={found} />;
  return <p className="muted">{loading ? "Looking at it…" : "Choose texts to see them."}</p>;
}
