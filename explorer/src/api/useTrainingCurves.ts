import { useEffect, useMemo, useState } from "react";
import type { TrainingMetric } from "../generated/types";
import { type Answer, useData } from "./hooks";
import { subscriber } from "./socket";
import { TrainingCurvesQueryDocument, TrainingCurvesSubscriptionDocument } from "./TrainingCurves.generated";
import { curveOf, followCurves, type TrainingCurve } from "./trainingCurve";

const subscribe = subscriber(TrainingCurvesSubscriptionDocument);

interface Curves extends Pick<Answer<unknown>, "problem" | "loading" | "reload"> {
  curves: readonly TrainingCurve[];
  /** Grows with each point that is added or taken back. */
  revision: number;
}

/** Loads curves and keeps them growing. Pass `saeIds` and `metrics` that stay the same between renders. */
export function useTrainingCurves(saeIds: string[], metrics: TrainingMetric[]): Curves {
  const [revision, setRevision] = useState(0);
  const { data, ...state } = useData(
    TrainingCurvesQueryDocument,
    { saeIds, metrics },
    { pause: saeIds.length === 0, policy: "network-only" },
  );
  const curves = useMemo(() => (data?.trainingCurves ?? []).map(curveOf), [data]);
  useEffect(() => {
    if (curves.length === 0) return;
    let frame = 0;
    const stop = followCurves(subscribe, curves, () => {
      // Points come in bursts; a screen shows one state a frame.
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        setRevision((before) => before + 1);
      });
    });
    return () => {
      cancelAnimationFrame(frame);
      stop();
    };
  }, [curves]);
  return { ...state, curves, revision };
}
