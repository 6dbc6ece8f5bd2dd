import { Link, useLocation, useParams, useSearchParams } from "wouter";
import { useAction, useData } from "../../api/hooks";
import { Card } from "../../components/Card";
import { ConfirmButton } from "../../components/ConfirmButton";
import { Empty } from "../../components/Empty";
import { ErrorBox } from "../../components/ErrorBox";
import { bytes, whole } from "../../components/numbers";
import { PageHeading } from "../../components/PageHeading";
import { RenameButton } from "../../components/RenameButton";
import { RunFacts } from "./RunFacts";
import { RunPageDeleteMutationDocument, RunPageQueryDocument } from "./RunPage.generated";
import { RunProgress } from "./RunProgress";
import { RunSaes } from "./RunSaes";
import { RunTexts } from "./RunTexts";

/** One activation run: what it holds, how it was made, what was trained on it. */
export default function RunPage() {
  const { id } = useParams<{ id: string }>();
  const [search, setSearch] = useSearchParams();
  const offset = Math.max(0, Math.floor(Number(search.get("text")) || 0));
  const { data, problem, loading, reload } = useData(RunPageQueryDocument, { id, offset });
  const run = data?.activationRun;

  if (!run) {
    const isMissing = data?.activationRun === null;
    return (
      <>
        <PageHeading title={isMissing ? "There is no such run" : "Activation run"} />
        {problem && <ErrorBox problem={problem} onRetry={reload} />}
        {isMissing && <Empty next={{ href: "/", label: "All runs" }}>It may have been deleted.</Empty>}
        {!isMissing && !problem && <p className="muted">Loading…</p>}
      </>
    );
  }
  return (
    <>
      <PageHeading title={run.name}>
        {run.status === "READY" && (
          <Link href={`/train?run=${run.id}`} className="button primary">
            Train an SAE on it
          </Link>
        )}
        <RenameButton id={run.id} name={run.name} />
        <DeleteRun run={run} />
      </PageHeading>
      {problem && <ErrorBox problem={problem} onRetry={reload} />}
      {run.status !== "READY" && <RunProgress status={run.status} job={run.job} />}
      <RunFacts run={run} />
      <Card title="SAEs" aside={<span className="muted">{whole(run.saes.totalCount)} in all</span>}>
        <RunSaes rows={run.saes.nodes} runId={run.id} />
      </Card>
      <RunTexts
        loading={loading}
        dataset={run.dataset}
        offset={offset}
        onOffset={(next) => setSearch(next > 0 ? { text: String(next) } : {}, { replace: true })}
      />
    </>
  );
}

function DeleteRun({ run }: { run: { id: string; name: string; byteSize: number } }) {
  const [, navigate] = useLocation();
  const remove = useAction(RunPageDeleteMutationDocument);
  const onConfirm = async () => {
    const isDone = (await remove.run({ id: run.id })) !== null;
    if (isDone) navigate("/");
    return isDone;
  };
  return (
    <ConfirmButton label="Delete" question={`Delete ${run.name}?`} onConfirm={onConfirm} {...remove}>
      <p>Its activations and texts go, {bytes(run.byteSize)}. While an SAE needs it, the server keeps it.</p>
    </ConfirmButton>
  );
}
