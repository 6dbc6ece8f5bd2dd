import { useEffect, useMemo, useState } from "react";
import { useData } from "../../api/hooks";
import { ErrorBox } from "../../components/ErrorBox";
import { whole } from "../../components/numbers";
import type { SaeShown } from "./About";
import { type Columns, unpackAll } from "./columns";
import { LaunchIndex } from "./LaunchIndex";
import { MapCanvas } from "./MapCanvas";
import { filterOf, type NeuronList, wordFilterOf } from "./neuronList";
import { SaePageColumnsQueryDocument } from "./SaePage.generated";
import { MAX_HITS, useHits } from "./useHits";
import { whenIdle } from "./useIdle";

interface DecoderMapProps {
  sae: SaeShown;
  list: NeuronList;
}

/** Neurons with like decoder directions near each other; those that the table lists stand out. */
export default function DecoderMap({ sae, list }: DecoderMapProps) {
  const { data, problem, reload } = useData(SaePageColumnsQueryDocument, { id: sae.id });
  const packed = data?.sae?.neuronColumns;
  const [columns, setColumns] = useState<Columns | null>(null);
  useEffect(() => (packed ? unpackAll(packed.columns, whenIdle, setColumns) : undefined), [packed]);
  const words = useMemo(() => wordFilterOf(list), [list]);
  const hits = useHits(sae.id, words);

  if (problem) return <ErrorBox problem={problem} onRetry={reload} />;
  if (data && !packed) {
    return (
      <>
        <p className="muted">An earlier version made the index, without a map. A new index has one.</p>
        <LaunchIndex saeId={sae.id} jobs={sae.jobs.nodes} label="Index the neurons again" />
      </>
    );
  }
  if (!columns) return <p className="muted">Loading…</p>;
  const isWaiting = words !== null && hits === null;
  return (
    <>
      <MapCanvas
        saeId={sae.id}
        columns={columns}
        list={list}
        hits={hits}
        isFiltered={filterOf(list) !== null}
      />
      <p className="muted" role="status">
        {isWaiting && "Searching…"}
        {hits && hits.size >= MAX_HITS && `Of what was found, the first ${whole(MAX_HITS)} stand out.`}
      </p>
    </>
  );
}
