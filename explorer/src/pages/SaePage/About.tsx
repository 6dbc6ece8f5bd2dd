import { Link } from "wouter";
import { Card } from "../../components/Card";
import { LayerName } from "../../components/LayerName";
import { NumberText } from "../../components/NumberText";
import { compact, percent, whole } from "../../components/numbers";
import { Properties, type Property } from "../../components/Properties";
import { Time } from "../../components/Time";
import { plain } from "../../components/words";
import type { InputNormalization } from "../../generated/types";
import { Exports } from "./Exports";
import { Provenance } from "./Provenance";
import type { SaePageQuery } from "./SaePage.generated";

export type SaeShown = NonNullable<SaePageQuery["sae"]>;

const MATCHES = new Map<boolean | null, string>([
  [true, "yes"],
  [false, "no, they have changed since"],
  [null, "not known"],
]);

const NORMALIZED: Record<InputNormalization, string | null> = {
  NONE: null,
  LAYER_NORM: "each token less its mean, over its standard deviation",
  RMS_NORM: "each token over its root mean square",
};

/** What the SAE is, what it was made from, and its files for other libraries. */
export function About({ sae }: { sae: SaeShown }) {
  const { trainingConfig: config, activationRun: run, neuronIndex: index } = sae;
  const properties: Property[] = [
    ["Class", sae.saeClass ?? "–"],
    ["State", plain(sae.status)],
    ["Neurons", <NumberText key="neurons" value={sae.latentCount} format={whole} />],
    ["Width of the layer", <NumberText key="width" value={sae.inputSize} format={whole} />],
    ...(sae.k === null ? [] : [["k", whole(sae.k)] as const]),
    ...(NORMALIZED[sae.inputNormalization] ? [["Inputs", NORMALIZED[sae.inputNormalization]] as const] : []),
    [
      "Model",
      <Link key="model" href={`/capture?model=${sae.languageModel.id}`}>
        {sae.languageModel.name}
      </Link>,
    ],
    ["Layer", <LayerName key="layer" name={sae.layer} />],
    ...(sae.outputLayer === sae.layer
      ? []
      : [["Layer that it writes", <LayerName key="written" name={sae.outputLayer} />] as const]),
    ["Model's files as then", MATCHES.get(sae.languageModelMatches)],
    [
      sae.origin === "IMPORTED" ? "Origin" : "Trained on",
      run ? (
        <Link key="run" href={`/train?run=${run.id}`}>
          {run.name}
        </Link>
      ) : (
        plain(sae.origin)
      ),
    ],
    ...(config
      ? ([
          ["Epochs", whole(config.epochs)],
          ["Learning rate", <NumberText key="rate" value={config.learningRate} />],
          ["Seed", String(config.seed)],
        ] as const)
      : []),
    ...(sae.fit
      ? ([
          [
            "Variance explained, built-in texts",
            <NumberText key="fit" value={sae.fit.explainedVariance} format={percent} />,
          ],
          ["L0, built-in texts", <NumberText key="l0" value={sae.fit.l0} />],
          ...(sae.fit.statedL0 === null ? [] : [["L0 that was stated", compact(sae.fit.statedL0)] as const]),
        ] as const)
      : []),
    ["Made", <Time key="made" at={sae.completedAt ?? sae.createdAt} />],
    [
      "Indexed over",
      index?.tokenCount
        ? `${compact(index.tokenCount)} tokens of ${compact(index.sampleCount ?? 0)} texts`
        : "–",
    ],
  ];
  return (
    <Card title="About">
      <Properties of={properties} />
      {sae.fit?.warnings.map((warning) => (
        <p key={warning}>{warning}</p>
      ))}
      <Exports sae={sae} />
      <Provenance saeId={sae.id} />
    </Card>
  );
}
