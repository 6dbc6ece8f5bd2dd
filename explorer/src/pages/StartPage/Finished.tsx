import { Link } from "wouter";
import { useData } from "../../api/hooks";
import { Card } from "../../components/Card";
import { ErrorBox } from "../../components/ErrorBox";
import { percent, precise, whole } from "../../components/numbers";
import { Properties } from "../../components/Properties";
import { TokenText } from "../../components/TokenText";
import styles from "./Progress.module.css";
import { StartPageResultQueryDocument } from "./StartPage.generated";

/** The SAE is there: its figures, some of its neurons, and where to go. */
export function Finished({ saeId, isHeldOut }: { saeId: string; isHeldOut: boolean }) {
  const { data, problem, reload } = useData(StartPageResultQueryDocument, { saeId });
  const sae = data?.sae;
  const evaluation = sae?.evaluation;
  const or = (value: number | null | undefined, format: (value: number) => string) =>
    value === null || value === undefined ? "–" : format(value);
  return (
    <Card title="Your SAE is ready">
      <div className="row">
        <Link href={`/saes/${saeId}`} className="button primary">
          Look at your neurons
        </Link>
        <Link href={`/saes/${saeId}/play`} className="button">
          Steer
        </Link>
        <Link href="/start" className="button">
          Make another
        </Link>
      </div>
      {problem && <ErrorBox problem={problem} onRetry={reload} />}
      {data && !sae && <p>It has been deleted since.</p>}
      {sae && (
        <>
          <Properties
            of={[
              ["Name", sae.name],
              ["Neurons", or(sae.latentCount, whole)],
              ["Variance explained", or(evaluation?.explainedVariance, percent)],
              ["Neurons a token (L0)", or(evaluation?.l0, precise)],
              ["CE loss recovered", or(evaluation?.ceLossRecovered, percent)],
              ["Never fired", or(sae.neuronIndex?.deadCount, whole)],
            ]}
          />
          <p className="muted">
            {isHeldOut
              ? "Measured on texts that it was not trained on."
              : "Measured on the texts that it was trained on, so the figures flatter it."}
          </p>
          <ul className={styles.texts} aria-label="Some of its neurons">
            {sae.neurons.nodes.map(({ index, frequency, topTexts }) => (
              <li key={index}>
                <Link href={`/saes/${saeId}/neurons/${index}`}>Neuron {index}</Link>{" "}
                <span className="muted">fires on {or(frequency, percent)} of tokens</span>
                {topTexts?.map((text) => (
                  <TokenText
                    key={text.textIndex}
                    tokens={text.tokenTexts.map((token) => ({ text: token }))}
                    activations={text.activations}
                    peak={text.peakIndex}
                  />
                ))}
              </li>
            ))}
          </ul>
        </>
      )}
    </Card>
  );
}
