import { useData } from "../../api/hooks";
import { Card } from "../../components/Card";
import { ErrorBox } from "../../components/ErrorBox";
import { CapturePageQueryDocument } from "../CapturePage/CapturePage.generated";
import { LayerPicker } from "../CapturePage/LayerPicker";
import { LoadModel } from "../CapturePage/LoadModel";
import { recommended } from "../CapturePage/layers";
import type { Plan } from "./plan";
import type { SetPlan } from "./StartPage";
import { TextsStep } from "./TextsStep";
import { TrainingStep } from "./TrainingStep";

interface LoadedStepsProps {
  plan: Plan;
  languageModelId: string;
  setPlan: SetPlan;
}

/** The steps that need a model whose layers are known: layer, texts, training. */
export function LoadedSteps({ plan, languageModelId, setPlan }: LoadedStepsProps) {
  const { data, problem, reload } = useData(CapturePageQueryDocument, { languageModelId });
  const model = data?.languageModel;
  if (problem && !data) return <ErrorBox problem={problem} onRetry={reload} />;
  if (!data) return <p className="muted">Loading…</p>;
  if (!model) {
    return (
      <Card title="This model is gone">
        <button type="button" onClick={() => setPlan({ model: null, step: "model" })}>
          Choose another
        </button>
      </Card>
    );
  }
  if (!model.layers) {
    return (
      <Card title={`Loading ${model.name}`}>
        <LoadModel model={model} onLoaded={reload} />
      </Card>
    );
  }
  const layer = plan.layer ?? recommended(model.layers)?.name ?? null;
  if (plan.step === "texts") return <TextsStep plan={plan} setPlan={setPlan} />;
  if (plan.step === "training" && layer) {
    return <TrainingStep plan={{ ...plan, layer }} model={model} setPlan={setPlan} />;
  }
  return (
    <Card title={`Which layer of ${model.name}?`}>
      <p className="muted">
        The SAE learns to take this layer's activations apart. A block a third of the way through is a good
        one to begin with.
      </p>
      <LayerPicker
        layers={model.layers}
        chosen={layer ? [layer] : []}
        onChange={([name]) => setPlan({ layer: name ?? null, earlier: null }, { replace: true })}
      />
      <div>
        <button
          type="button"
          className="primary"
          disabled={!layer}
          onClick={() => setPlan({ layer, step: "texts" })}
        >
          Use this layer
        </button>
      </div>
    </Card>
  );
}
