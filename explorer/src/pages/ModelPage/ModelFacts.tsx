import { Card } from "../../components/Card";
import { NumberText } from "../../components/NumberText";
import { compact, whole } from "../../components/numbers";
import { Properties } from "../../components/Properties";
import { Time } from "../../components/Time";
import { plain } from "../../components/words";
import type { ModelPageQuery } from "./ModelPage.generated";

export type Model = NonNullable<ModelPageQuery["languageModel"]>;

export function ModelFacts({ model }: { model: Model }) {
  return (
    <Card title="What it is">
      <Properties
        of={[
          ["Source", model.source],
          ["Status", plain(model.status)],
          ["Architecture", model.architecture ?? "–"],
          ["Parameters", <NumberText key="parameters" value={model.parameterCount} format={compact} />],
          ["Width", <NumberText key="width" value={model.hiddenSize} format={whole} />],
          ["Vocabulary", <NumberText key="vocabulary" value={model.vocabularySize} format={whole} />],
          ["Precision", model.dtype.toLowerCase()],
          ["Fingerprint", <code key="fingerprint">{model.fingerprint?.slice(0, 16) ?? "–"}</code>],
          ["Added", <Time key="added" at={model.createdAt} />],
        ]}
      />
      {model.statusMessage && <p role="alert">{model.statusMessage}</p>}
    </Card>
  );
}
