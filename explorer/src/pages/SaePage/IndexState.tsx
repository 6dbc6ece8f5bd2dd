import { isFinished } from "../../api/jobFeed";
import { Card } from "../../components/Card";
import type { SaeShown } from "./About";
import { LaunchIndex } from "./LaunchIndex";

/** Shows what to do where the neurons are not indexed, or that they are being indexed. */
export function IndexState({ sae }: { sae: SaeShown }) {
  const { neuronIndex: index, jobs } = sae;
  const isRunning = jobs.nodes.some((job) => job.kind === "INDEX_NEURONS" && !isFinished(job));
  if (index?.status === "READY" && !isRunning) return null;
  return (
    <Card title={index?.status === "READY" ? "The index is being renewed" : "The neurons are not indexed"}>
      {index?.status !== "READY" && (
        <p className="muted">
          {index?.status === "FAILED" ? "The last try has failed. " : ""}
          An index says how often and on which texts each neuron fires. It takes one pass over an activation
          run{sae.activationRun ? "" : "; this SAE has no run of its own, so name one through the API"}.
        </p>
      )}
      <LaunchIndex saeId={sae.id} jobs={jobs.nodes} label="Index the neurons" />
    </Card>
  );
}
