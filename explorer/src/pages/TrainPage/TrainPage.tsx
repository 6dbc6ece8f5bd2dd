import { Link, useSearchParams } from "wouter";
import { useData } from "../../api/hooks";
import { Card } from "../../components/Card";
import { Select } from "../../components/controls";
import { Empty } from "../../components/Empty";
import { ErrorBox } from "../../components/ErrorBox";
import { compact, whole } from "../../components/numbers";
import { PageHeading } from "../../components/PageHeading";
import { TrainForm } from "./TrainForm";
import { TrainPageQueryDocument, TrainPageRunsQueryDocument } from "./TrainPage.generated";

/** Trains an SAE, or several, on a run. The run is in the address. */
export default function TrainPage() {
  const [search, setSearch] = useSearchParams();
  const all = useData(TrainPageRunsQueryDocument, {});
  const runs = all.data?.activationRuns.nodes;
  const activationRunId = search.get("run") ?? runs?.[0]?.id ?? "";
  const answer = useData(TrainPageQueryDocument, { activationRunId }, { pause: activationRunId === "" });
  const run = answer.data?.activationRun;
  const problem = all.problem ?? answer.problem;
  const options = (runs ?? []).map(({ id, name }) => ({ value: id, label: name }));
  if (run && !options.some(({ value }) => value === run.id)) {
    options.unshift({ value: run.id, label: run.name });
  }

  return (
    <>
      <PageHeading title="Train an SAE" />
      {problem && <ErrorBox problem={problem} onRetry={answer.reload} />}
      {!runs && !problem && <p className="muted">Loading…</p>}
      {runs && options.length === 0 && (
        <Empty next={{ href: "/capture", label: "Capture some" }}>
          There are no activations to train on yet.
        </Empty>
      )}
      {options.length > 0 && (
        <Card title="Activations" aside={run && <Link href={`/runs/${run.id}`}>About this run</Link>}>
          <Select
            label="Activation run"
            value={activationRunId}
            options={options}
            onChange={(id) => setSearch({ run: id })}
          />
          {answer.data && !run && <p role="alert">There is no such run; choose another.</p>}
          {run && (
            <p className="muted">
              {compact(run.tokenCount)} tokens of {whole(run.sampleCount)} texts, {run.languageModel.name},{" "}
              {run.layers.map(({ name }) => name).join(", ")}
            </p>
          )}
        </Card>
      )}
      {activationRunId !== "" && !answer.data && !answer.problem && (
        <p className="muted">Asking the server what it can train…</p>
      )}
      {run && run.status !== "READY" && (
        <Empty next={{ href: `/runs/${run.id}`, label: "See how far it is" }}>
          This run is not ready, and cannot be trained on.
        </Empty>
      )}
      {run?.status === "READY" && answer.data && (
        <TrainForm
          key={run.id}
          run={run}
          server={answer.data.server}
          initial={{ layer: search.get("layer"), saeClass: search.get("class") }}
        />
      )}
    </>
  );
}
