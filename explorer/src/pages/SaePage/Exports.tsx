import { useAction } from "../../api/hooks";
import { isFinished } from "../../api/jobFeed";
import { laterOf, useLiveJobs } from "../../api/liveJobs";
import { ErrorBox } from "../../components/ErrorBox";
import { bytes } from "../../components/numbers";
import type { SaeShown } from "./About";
import { JobLine } from "./LaunchIndex";
import { SaePageExportMutationDocument } from "./SaePage.generated";

/** Files of the SAE to take away. */
export function Exports({ sae }: { sae: SaeShown }) {
  const live = useLiveJobs();
  const { run, running, problem } = useAction(SaePageExportMutationDocument);
  const job = sae.jobs.nodes
    .filter(({ kind }) => kind === "EXPORT_SAE")
    .map((one) => laterOf(one, live.get(one.id)))
    .find((one) => !isFinished(one));
  return (
    <div className="row">
      {sae.exports.map(({ format, url, byteSize }) => (
        <a key={format} href={url} download>
          Download for SAELens ({bytes(byteSize)})
        </a>
      ))}
      {sae.neuronIndex?.topTextsUrl && (
        <a href={sae.neuronIndex.topTextsUrl} download>
          Download top texts
        </a>
      )}
      {job ? (
        <JobLine job={job} />
      ) : (
        <button
          type="button"
          disabled={running}
          onClick={() => run({ input: { saeId: sae.id, format: "SAE_LENS" } })}
        >
          {sae.exports.length > 0 ? "Export again" : "Export for SAELens"}
        </button>
      )}
      {problem && <ErrorBox problem={problem} />}
    </div>
  );
}
