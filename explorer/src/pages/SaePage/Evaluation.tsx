import { type ReactNode, useState } from "react";
import { Link } from "wouter";
import { isFinished } from "../../api/jobFeed";
import { laterOf, useLiveJobs } from "../../api/liveJobs";
import { Card } from "../../components/Card";
import { NumberText } from "../../components/NumberText";
import { percent, whole } from "../../components/numbers";
import { Properties, type Property } from "../../components/Properties";
import { Time } from "../../components/Time";
import type { SaeShown } from "./About";
import styles from "./Evaluation.module.css";
import { JobLine } from "./LaunchIndex";
import { MeasureForm } from "./MeasureForm";
import type { SaePage_EvaluationFragment } from "./SaePage.generated";

/** The newest evaluation, what it was measured on, and how to measure again. */
export function Evaluation({ sae }: { sae: SaeShown }) {
  const live = useLiveJobs();
  const [isMeasuring, setMeasuring] = useState(false);
  const { evaluation } = sae;
  const job = sae.jobs.nodes
    .filter(({ kind }) => kind === "EVALUATE_SAE")
    .map((one) => laterOf(one, live.get(one.id)))
    .find((one) => !isFinished(one));
  const aside = (
    <button type="button" onClick={() => setMeasuring(true)}>
      {evaluation ? "Measure again" : "Measure"}
    </button>
  );
  return (
    <Card title="Evaluation" aside={aside}>
      {job && <JobLine job={job} />}
      {evaluation ? (
        <Figures of={evaluation} />
      ) : (
        <p className="muted">
          Nobody has measured yet how well this SAE stands in for its layer: how much loss it costs, how much
          variance it explains.
        </p>
      )}
      {isMeasuring && <MeasureForm sae={sae} onClose={() => setMeasuring(false)} />}
    </Card>
  );
}

const share = (value: number | null) => <NumberText value={value} format={percent} />;
const number = (value: number | null, unit?: string) => <NumberText value={value} {...(unit && { unit })} />;

function Figures({ of }: { of: SaePage_EvaluationFragment }) {
  const main: Property[] = [
    ["CE loss recovered", share(of.ceLossRecovered)],
    ["Variance explained", share(of.explainedVariance)],
    ["L0", number(of.l0)],
    ["Never fired", share(of.deadFraction)],
    ["KL divergence", number(of.klDivergenceReconstructed, "nats")],
    ["Cosine", number(of.cosineSimilarity)],
  ];
  const rest: Property[] = [
    ["MSE", number(of.mse)],
    ["Relative reconstruction bias", number(of.relativeReconstructionBias)],
    ["CE loss, original", number(of.ceLossOriginal, "nats")],
    ["CE loss, reconstructed", number(of.ceLossReconstructed, "nats")],
    ["CE loss, layer zeroed", number(of.ceLossZeroAblated, "nats")],
    ["Variance explained, with outliers", share(of.explainedVarianceWithOutliers)],
    ["Variance explained, without them", share(of.explainedVarianceWithoutOutliers)],
    ["Outliers", number(of.outlierCount, "tokens")],
    ["Texts cut at their end", number(of.truncatedTextCount)],
    ["Tokens of a text, at most", whole(of.maxLength)],
    ["Tokens with a loss", number(of.predictedTokenCount)],
    ["Dead if silent for", number(of.deadWindowTokens, "tokens")],
    ["Left-out first positions", whole(of.excludeFirstPositions)],
    ["Left out beyond the median times", number(of.excludeOutliers)],
    ["Tokens left out", number(of.excludedTokenCount)],
    ["Tokens not finite", number(of.nonFiniteTokenCount)],
    ["Definitions, version", whole(of.metricDefinitionsVersion)],
  ];
  return (
    <>
      <Large of={main} />
      <p className="muted">
        Measured on {whole(of.tokenCount)} tokens of {whole(of.sampleCount)} texts of {of.dataset.description}
        {of.dataset.kind === "BUILT_IN" && " (built in)"}, from text {whole(of.sampleOffset)} on,{" "}
        <Time at={of.evaluatedAt} />. {of.job && <Link href={`/jobs/${of.job.id}`}>Its job</Link>}
      </p>
      <details>
        <summary>All figures, and what was left out</summary>
        <div className={styles.details}>
          <Properties of={rest} />
        </div>
      </details>
    </>
  );
}

function Large({ of }: { of: readonly (readonly [string, ReactNode])[] }) {
  return (
    <dl className={styles.large}>
      {of.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
