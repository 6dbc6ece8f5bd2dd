import { lazy, Suspense } from "react";
import { Card } from "../../components/Card";
import type { SaeShown } from "./About";
import type { NeuronList } from "./neuronList";
import { useIdle } from "./useIdle";

const DecoderMap = lazy(() => import("./DecoderMap"));

/** The map of all neurons, once the table has had its turn. */
export function MapCard({ sae, list }: { sae: SaeShown; list: NeuronList }) {
  const isIdle = useIdle();
  const waiting = <p className="muted">Loading…</p>;
  return (
    <Card title="Map of decoder directions">
      <Suspense fallback={waiting}>{isIdle ? <DecoderMap sae={sae} list={list} /> : waiting}</Suspense>
    </Card>
  );
}
