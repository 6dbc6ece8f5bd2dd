import { useState } from "react";
import { Card } from "../../components/Card";
import { DatasetLook, useDatasetLook } from "../DatasetsPage/DatasetLook";
import { DatasetPicker, type Kind } from "../DatasetsPage/DatasetPicker";
import { isComplete } from "../DatasetsPage/datasetChoice";
import { type Plan, shares } from "./plan";
import type { SetPlan } from "./StartPage";

/** Which texts the model reads. */
export function TextsStep({ plan, setPlan }: { plan: Plan; setPlan: SetPlan }) {
  const [kind, setKind] = useState<Kind>(plan.data.kind);
  const look = useDatasetLook(plan.data, plan.model);
  const isChosen = kind === plan.data.kind && isComplete(plan.data);
  const isUsable = isChosen && !look.problem && !look.found?.problem && !look.loading;
  return (
    <Card title="Which texts?">
      <p className="muted">
        The model reads them; the SAE's neurons are what it finds there. More and more varied texts give
        better ones.
      </p>
      <DatasetPicker
        choice={plan.data}
        onChange={(data) => setPlan({ data }, { replace: true })}
        kind={kind}
        onKind={setKind}
        languageModelId={plan.model}
      />
      {isChosen && <DatasetLook choice={plan.data} answer={look} />}
      <div>
        <button
          type="button"
          className="primary"
          disabled={!isUsable}
          onClick={() =>
            setPlan({ step: "training", earlier: null, ...shares(look.found?.sampleCount ?? null) })
          }
        >
          Use these texts
        </button>
      </div>
    </Card>
  );
}
