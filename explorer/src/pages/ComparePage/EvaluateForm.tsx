import { useState } from "react";
import { Link } from "wouter";
import { useAction, useData } from "../../api/hooks";
import { useKnownJobs } from "../../api/liveJobs";
import type { Shared_JobFragment } from "../../api/Shared.generated";
import { NumberField, Select } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import { JobProgress } from "../../components/JobProgress";
import { whole } from "../../components/numbers";
import type { DatasetInput } from "../../generated/types";
import {
  ComparePageDatasetsQueryDocument,
  ComparePageEvaluateMutationDocument,
} from "./ComparePage.generated";
import styles from "./EvaluateForm.module.css";
import type { ComparedSae } from "./facts";

const BUILT_IN = "PYTHON_REFERENCE";

/** Measures all SAEs on the same texts, so that their figures can be compared. */
export function EvaluateForm({ saes }: { saes: readonly ComparedSae[] }) {
  const datasets = useData(ComparePageDatasetsQueryDocument, {});
  const { run, problem, running } = useAction(ComparePageEvaluateMutationDocument);
  const live = useKnownJobs();
  const [texts, setTexts] = useState<string>(BUILT_IN);
  const [limit, setLimit] = useState<number | null>(256);
  const [offset, setOffset] = useState<number | null>(0);
  const [jobs, setJobs] = useState<readonly Shared_JobFragment[]>([]);
  const measurable = saes.filter(({ status }) => status === "READY" || status === "PARTIAL");

  const launch = async () => {
    setJobs([]);
    const dataset: DatasetInput = texts === BUILT_IN ? { builtIn: BUILT_IN } : { datasetId: texts };
    for (const { id: saeId } of measurable) {
      const launched = await run({
        input: { saeId, dataset, sampleLimit: limit ?? 256, sampleOffset: offset ?? 0 },
      });
      // The problem says why, and the others would meet the same.
      if (launched?.__typename !== "JobLaunched") return;
      setJobs((before) => [...before, launched.job]);
    }
  };
  return (
    <form
      className={styles.form}
      onSubmit={(event) => {
        event.preventDefault();
        launch();
      }}
    >
      <div className="row">
        <Select
          label="Texts"
          value={texts}
          onChange={setTexts}
          options={[
            { value: BUILT_IN, label: "Python language reference (built in)" },
            ...(datasets.data?.datasets.nodes ?? [])
              .filter(({ status }) => status === "READY")
              .map(({ id, name, sampleCount }) => ({
                value: id,
                label: `${name}, ${whole(sampleCount)} texts`,
              })),
          ]}
        />
        <NumberField label="How many" value={limit} onChange={setLimit} min={1} step={1} />
        <NumberField label="Leave out at the start" value={offset} onChange={setOffset} min={0} step={1} />
        <button type="submit" className="primary" disabled={running || measurable.length === 0}>
          Evaluate {measurable.length === 1 ? "it" : `all ${measurable.length}`}
        </button>
      </div>
      <p className="muted">
        Take texts that none was trained on. <Link href="/datasets">Upload others</Link>
      </p>
      {datasets.problem && <ErrorBox problem={datasets.problem} onRetry={datasets.reload} />}
      {problem && <ErrorBox problem={problem} />}
      {jobs.length > 0 && (
        <ul className={styles.jobs} aria-label="Evaluations that were launched">
          {jobs.map((job) => (
            <li key={job.id}>
              <Link href={`/jobs/${job.id}`}>{job.title}</Link>
              <JobProgress job={live.get(job.id) ?? job} />
            </li>
          ))}
        </ul>
      )}
    </form>
  );
}
