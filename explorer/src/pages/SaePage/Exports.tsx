import { useState } from "react";
import { useAction } from "../../api/hooks";
import { isFinished } from "../../api/jobFeed";
import { laterOf, useLiveJobs } from "../../api/liveJobs";
import { Select } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import { bytes } from "../../components/numbers";
import type { SaeExportFormat } from "../../generated/types";
import type { SaeShown } from "./About";
import { JobLine } from "./LaunchIndex";
import { SaePageExportMutationDocument } from "./SaePage.generated";

const FORMATS: Record<SaeExportFormat, string> = {
  SAE_LENS: "for SAELens",
  DICTIONARY_LEARNING: "for dictionary_learning",
  SPARSIFY: "for sparsify",
  NEURONPEDIA: "neurons for Neuronpedia",
  PARQUET: "neurons as Parquet",
};
const OPTIONS = (Object.keys(FORMATS) as SaeExportFormat[]).map((value) => ({
  value,
  label: FORMATS[value],
}));

/** Files of the SAE to take away. */
export function Exports({ sae }: { sae: SaeShown }) {
  const live = useLiveJobs();
  const { run, running, problem, clear } = useAction(SaePageExportMutationDocument);
  const [format, setFormat] = useState<SaeExportFormat>("SAE_LENS");
  const job = sae.jobs.nodes
    .filter(({ kind }) => kind === "EXPORT_SAE")
    .map((one) => laterOf(one, live.get(one.id)))
    .find((one) => !isFinished(one));
  return (
    <div className="row">
      {sae.exports.map((one) => (
        <a key={one.format} href={one.url} download>
          Download {FORMATS[one.format]} ({bytes(one.byteSize)})
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
        <>
          <Select
            label="Export"
            value={format}
            options={OPTIONS}
            onChange={(next) => {
              setFormat(next);
              clear();
            }}
          />
          <button type="button" disabled={running} onClick={() => run({ input: { saeId: sae.id, format } })}>
            {sae.exports.some((one) => one.format === format) ? "Export again" : "Export"}
          </button>
        </>
      )}
      {problem && <ErrorBox problem={problem} />}
    </div>
  );
}
