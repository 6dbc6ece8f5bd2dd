import { Link, useLocation, useParams } from "wouter";
import { useAction, useData } from "../../api/hooks";
import { Card } from "../../components/Card";
import { ConfirmButton } from "../../components/ConfirmButton";
import { Empty } from "../../components/Empty";
import { ErrorBox } from "../../components/ErrorBox";
import { PageHeading } from "../../components/PageHeading";
import { RenameButton } from "../../components/RenameButton";
import { LoadModel } from "../CapturePage/LoadModel";
import { Drawn } from "./Drawn";
import { ImportCard } from "./ImportCard";
import { Made } from "./Made";
import { ModelFacts } from "./ModelFacts";
import { ModelOptions } from "./ModelOptions";
import {
  ModelPageDeleteMutationDocument,
  ModelPageQueryDocument,
  ModelPageUnloadMutationDocument,
} from "./ModelPage.generated";

/** One language model: what it is, its layers and options, what was made with it. */
export default function ModelPage() {
  const { id } = useParams<{ id: string }>();
  const { data, problem, reload } = useData(ModelPageQueryDocument, { id });
  const model = data?.languageModel;
  const unload = useAction(ModelPageUnloadMutationDocument);

  if (!model) {
    const isMissing = data?.languageModel === null;
    return (
      <>
        <PageHeading title={isMissing ? "There is no such language model" : "Language model"} />
        {problem && <ErrorBox problem={problem} onRetry={reload} />}
        {isMissing && <Empty next={{ href: "/", label: "All models" }}>It may have been deleted.</Empty>}
        {!isMissing && !problem && <p className="muted">Loading…</p>}
      </>
    );
  }
  return (
    <>
      <PageHeading title={model.name}>
        <Link href={`/capture?model=${model.id}`} className="button primary">
          Capture activations
        </Link>
        {model.status === "LOADED" && (
          <button type="button" disabled={unload.running} onClick={() => unload.run({ id: model.id })}>
            Unload
          </button>
        )}
        <RenameButton id={model.id} name={model.name} />
        <DeleteModel model={model} />
      </PageHeading>
      {problem && <ErrorBox problem={problem} onRetry={reload} />}
      {unload.problem && <ErrorBox problem={unload.problem} />}
      <ModelFacts model={model} />
      {model.layers ? (
        <>
          <Drawn layers={model.layers} modelId={model.id} />
          <ImportCard modelId={model.id} />
        </>
      ) : (
        <Card title="Layers">
          <LoadModel model={model} onLoaded={reload} />
        </Card>
      )}
      <ModelOptions key={model.optionsVersion} model={model} />
      <Made model={model} />
    </>
  );
}

function DeleteModel({ model }: { model: { id: string; name: string } }) {
  const [, navigate] = useLocation();
  const remove = useAction(ModelPageDeleteMutationDocument);
  const onConfirm = async () => {
    const isDone = (await remove.run({ id: model.id })) !== null;
    if (isDone) navigate("/");
    return isDone;
  };
  return (
    <ConfirmButton label="Delete" question={`Delete ${model.name}?`} onConfirm={onConfirm} {...remove}>
      <p>
        The server forgets the model and its own copy of it. While a run or an SAE belongs to it, it stays.
      </p>
    </ConfirmButton>
  );
}
