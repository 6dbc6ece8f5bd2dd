import { Link } from "wouter";
import type { Shared_JobFragment } from "../../api/Shared.generated";

const NEXT = {
  ActivationRun: { path: (id: string) => `/train?run=${id}`, label: "Train an SAE on this run" },
  Sae: { path: (id: string) => `/saes/${id}`, label: "Look at the SAE" },
  LanguageModel: { path: (id: string) => `/capture?model=${id}`, label: "Capture its activations" },
} as const;

/** Where to go from a job that has made something. */
export function JobResult({ job }: { job: Shared_JobFragment }) {
  if (job.status !== "SUCCEEDED" || !job.result) return null;
  const { path, label } = NEXT[job.result.__typename];
  return (
    <p>
      <Link href={path(job.result.id)} className="button primary">
        {label}
      </Link>
    </p>
  );
}
