import { type FormEvent, useState } from "react";
import { Link } from "wouter";
import { useAction, useData } from "../../api/hooks";
import { isFinished } from "../../api/jobFeed";
import { laterOf, useLiveJobs } from "../../api/liveJobs";
import { messageAt } from "../../api/problems";
import type { Shared_JobFragment } from "../../api/Shared.generated";
import { NumberField } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import { JobProgress } from "../../components/JobProgress";
import { IndexInputDocument, inputField } from "./indexInput";
import { SaePageIndexMutationDocument } from "./SaePage.generated";

const TOP_TEXTS = "topTextsPerNeuron";

interface LaunchIndexProps {
  saeId: string;
  label: string;
  /** Whether its settings are what people come for. */
  isOpen?: boolean;
  /** Those of the SAE, as far as they are known. */
  jobs?: readonly Shared_JobFragment[];
}

/** Has the neurons indexed over the SAE's run, and shows how far that is. */
export function LaunchIndex({ saeId, label, isOpen = false, jobs = [] }: LaunchIndexProps) {
  const live = useLiveJobs();
  const { run, running, problem } = useAction(SaePageIndexMutationDocument);
  const [launched, setLaunched] = useState<Shared_JobFragment | null>(null);
  const known = [...(launched ? [launched] : []), ...jobs.filter(({ kind }) => kind === "INDEX_NEURONS")];
  const job = known.map((one) => laterOf(one, live.get(one.id))).find((one) => !isFinished(one));
  const [topTexts, setTopTexts] = useState<number | null>(null);
  const { data } = useData(IndexInputDocument, {}, { policy: "cache-first", pause: Boolean(job) });
  const field = inputField(data, TOP_TEXTS);
  const launch = async (event: FormEvent) => {
    event.preventDefault();
    const done = await run({ input: { saeId, ...(topTexts !== null && { [TOP_TEXTS]: topTexts }) } });
    if (done?.__typename === "JobLaunched") setLaunched(done.job);
  };
  if (job) return <JobLine job={job} />;
  return (
    <form className="stack" noValidate onSubmit={launch}>
      <details open={isOpen}>
        <summary>Settings</summary>
        <NumberField
          label="Top texts per neuron"
          hint={field.description}
          min={1}
          step={1}
          placeholder={field.usual === null ? "" : String(field.usual)}
          value={topTexts}
          onChange={setTopTexts}
          error={messageAt(problem, TOP_TEXTS)}
        />
      </details>
      <div>
        <button type="submit" disabled={running}>
          {label}
        </button>
      </div>
      {problem && <ErrorBox problem={problem} />}
    </form>
  );
}

/** A job that goes on, with the way to it. */
export function JobLine({ job }: { job: Shared_JobFragment }) {
  return (
    <div className="row">
      <Link href={`/jobs/${job.id}`}>{job.title}</Link>
      <JobProgress job={job} />
    </div>
  );
}
