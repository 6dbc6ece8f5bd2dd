import { useEffect } from "react";
import { useAction } from "../../api/hooks";
import { useLiveJobs } from "../../api/liveJobs";
import { ErrorBox } from "../../components/ErrorBox";
import { JobProgress } from "../../components/JobProgress";
import { CapturePageLoadMutationDocument } from "./CapturePage.generated";

interface LoadModelProps {
  model: { id: string; name: string; statusMessage: string | null };
  onLoaded: () => void;
}

/** A model whose layers are not known before it has been loaded once. */
export function LoadModel({ model, onLoaded }: LoadModelProps) {
  const { run, problem, running } = useAction(CapturePageLoadMutationDocument);
  const live = [...useLiveJobs().values()].filter(
    ({ kind, result }) => kind === "LOAD_LANGUAGE_MODEL" && result?.id === model.id,
  );
  const job = live.at(-1);
  const status = job?.status;
  useEffect(() => {
    if (status === "SUCCEEDED") onLoaded();
  }, [status, onLoaded]);
  const isLoading = status === "QUEUED" || status === "RUNNING";
  const message = job?.error ?? (status === undefined ? model.statusMessage : null);
  return (
    <div className="stack">
      <p>Its layers are known once it has been loaded.</p>
      {job && <JobProgress job={job} detailed />}
      {message && (
        <ErrorBox problem={{ title: "It could not be loaded", message, fields: [], retryAfter: null }} />
      )}
      {problem && <ErrorBox problem={problem} />}
      <div>
        <button
          type="button"
          className="primary"
          disabled={running || isLoading}
          onClick={() => run({ id: model.id })}
        >
          {message ? "Try again" : `Load ${model.name}`}
        </button>
      </div>
    </div>
  );
}
