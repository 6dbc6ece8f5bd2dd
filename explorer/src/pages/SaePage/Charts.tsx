import { lazy, Suspense } from "react";
import { Histogram } from "../../charts/Histogram";
import { Card } from "../../components/Card";
import { whole } from "../../components/numbers";
import type { SaeShown } from "./About";
import { boundsOf, rangeOf } from "./brush";
import styles from "./Charts.module.css";
import { LaunchIndex } from "./LaunchIndex";
import type { NeuronList } from "./neuronList";
import { useIdle } from "./useIdle";

const DensityPlot = lazy(() => import("./DensityPlot"));

interface ChartsProps {
  sae: SaeShown;
  list: NeuronList;
  onChange: (list: NeuronList) => void;
}

/** All neurons at once, by their figures; what is chosen here filters the table. */
export function Charts({ sae, list, onChange }: ChartsProps) {
  // The table is what people wait for.
  const isIdle = useIdle();
  const index = sae.neuronIndex;
  const histogram = index?.frequencyHistogram;
  const edges = histogram?.edges.map((edge) => 10 ** edge) ?? [];
  const waiting = <p className="muted">Loading…</p>;
  return (
    <div className={styles.charts}>
      <Card
        title="Neurons by frequency"
        aside={
          Boolean(index?.deadCount) && (
            <button type="button" className="plain" onClick={() => onChange({ ...list, dead: true })}>
              {whole(index?.deadCount ?? 0)} never fired
            </button>
          )
        }
      >
        {histogram && edges.length > 1 ? (
          <Histogram
            label="Neurons by the share of tokens on which they fire"
            edges={edges}
            counts={histogram.counts}
            logX
            range={rangeOf(list.frequency, edges)}
            onBrush={(range) => onChange({ ...list, frequency: boundsOf(range, edges) })}
          />
        ) : histogram ? (
          <p className="muted">No neuron fired.</p>
        ) : (
          <>
            <p className="muted">
              An earlier version made the index, without this histogram. A new index has one.
            </p>
            <LaunchIndex saeId={sae.id} jobs={sae.jobs.nodes} label="Index the neurons again" />
          </>
        )}
      </Card>
      <Card title="Maximum by frequency">
        <Suspense fallback={waiting}>
          {isIdle ? <DensityPlot saeId={sae.id} list={list} onChange={onChange} /> : waiting}
        </Suspense>
      </Card>
    </div>
  );
}
