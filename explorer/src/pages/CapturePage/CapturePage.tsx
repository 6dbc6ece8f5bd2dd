import { Link, useSearchParams } from "wouter";
import { useData } from "../../api/hooks";
import { Card } from "../../components/Card";
import { Select } from "../../components/controls";
import { Empty } from "../../components/Empty";
import { ErrorBox } from "../../components/ErrorBox";
import { PageHeading } from "../../components/PageHeading";
import { CaptureForm } from "./CaptureForm";
import { CapturePageModelsQueryDocument, CapturePageQueryDocument } from "./CapturePage.generated";
import { LoadModel } from "./LoadModel";

/** What to capture: a model, its layers, texts. Model, layers and texts are in the address. */
export default function CapturePage() {
  const [search, setSearch] = useSearchParams();
  const all = useData(CapturePageModelsQueryDocument, {});
  const models = all.data?.languageModels;
  const languageModelId = search.get("model") ?? models?.[0]?.id ?? "";
  const answer = useData(CapturePageQueryDocument, { languageModelId }, { pause: languageModelId === "" });
  // Of another choice, the answer before stands until the new one comes.
  const answered = answer.data?.languageModel;
  const model = answered?.id === languageModelId ? answered : null;
  const problem = all.problem ?? answer.problem;

  const choose = (id: string) =>
    setSearch((before) => {
      const next = new URLSearchParams(before);
      next.set("model", id);
      next.delete("layers");
      return next;
    });

  return (
    <>
      <PageHeading title="Capture activations" />
      {problem && <ErrorBox problem={problem} onRetry={answer.reload} />}
      {!models && !problem && <p className="muted">Loading…</p>}
      {models?.length === 0 && (
        <Empty next={{ href: "/start", label: "Add one" }}>There is no language model yet.</Empty>
      )}
      {models && models.length > 0 && (
        <Card
          title="Language model"
          aside={model && <Link href={`/models/${model.id}`}>About this model</Link>}
        >
          <Select
            label="Model"
            value={languageModelId}
            options={models.map(({ id, name }) => ({ value: id, label: name }))}
            onChange={choose}
          />
          {answer.data && !answer.loading && !model && (
            <p role="alert">There is no such model; choose another.</p>
          )}
          {model && !model.layers && <LoadModel model={model} onLoaded={answer.reload} />}
        </Card>
      )}
      {model?.layers && all.data && (
        <CaptureForm
          key={model.id}
          model={model}
          layers={model.layers}
          limits={all.data.server.limits}
          search={search}
          setSearch={setSearch}
        />
      )}
    </>
  );
}
