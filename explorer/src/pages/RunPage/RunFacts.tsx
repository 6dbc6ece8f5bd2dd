import { Link } from "wouter";
import { Card } from "../../components/Card";
import { NumberText } from "../../components/NumberText";
import { bytes, whole } from "../../components/numbers";
import { Properties, type Property } from "../../components/Properties";
import { Time } from "../../components/Time";
import { plain } from "../../components/words";
import type { RunPageQuery } from "./RunPage.generated";

type Run = NonNullable<RunPageQuery["activationRun"]>;

export function RunFacts({ run }: { run: Run }) {
  const { provenance, dataset, languageModel } = run;
  const count = (value: number | null) => <NumberText value={value} format={whole} />;
  const stored = dataset.storedDataset;
  return (
    <>
      <Card title="What it holds">
        <Properties
          of={[
            [
              "Language model",
              <Link key="model" href={`/models/${languageModel.id}`}>
                {languageModel.name}
              </Link>,
            ],
            ["Layers", run.layers.map(({ name, hiddenSize }) => `${name} (${hiddenSize ?? "–"})`).join(", ")],
            [
              "Texts from",
              stored ? (
                <Link key="dataset" href={`/datasets?dataset=${stored.id}`}>
                  {stored.name}
                </Link>
              ) : (
                dataset.description
              ),
            ],
            ["Texts", count(run.sampleCount)],
            ["Tokens", count(run.tokenCount)],
            ["Size", bytes(run.byteSize)],
            ["Number format", run.dtype.toLowerCase()],
            ["Tokens of a text", count(run.maxLength)],
            ["Longer texts", run.longTexts === "SPLIT" ? "split into pieces" : "cut"],
            ["Texts cut", count(run.truncatedTextCount)],
            ["Pieces", count(run.pieceCount)],
            ["Made", <Time key="made" at={run.completedAt ?? run.createdAt} />],
          ]}
        />
        {run.languageModelMatches === false && (
          <p role="alert">The language model's files are not those that it was captured with.</p>
        )}
      </Card>
      <Card title="How it was made">
        {provenance ? (
          <Properties
            of={[
              [
                "Model source",
                `${provenance.languageModel.source} (${plain(provenance.languageModel.sourceKind)})`,
              ],
              ["Revision", provenance.languageModel.revision ?? "–"],
              [
                "Fingerprint",
                <code key="print">{provenance.languageModel.fingerprint?.slice(0, 16) ?? "–"}</code>,
              ],
              ["Texts of a batch", count(run.batchSize)],
              ["Batches", count(run.batchCount)],
              ["Padding", provenance.paddingSide],
              ["Matrix products", provenance.matmulPrecision],
              ["Tokens left out as not finite", count(provenance.nonFiniteTokenCount)],
              ["Bad rows left out", count(dataset.skippedRowCount)],
              ["Manifest", run.manifestPath ?? "–"],
              ...provenance.versions.map(({ name, version }): Property => [name, version]),
            ]}
          />
        ) : (
          <p className="muted">That is not recorded: it is not complete, or an earlier version made it.</p>
        )}
      </Card>
    </>
  );
}
