import { useCallback, useEffect, useRef } from "react";
import { useSearchParams } from "wouter";
import { PageHeading } from "../../components/PageHeading";
import { LoadedSteps } from "./LoadedSteps";
import { ModelStep } from "./ModelStep";
import { Progress } from "./Progress";
import { type Plan, paramsOf, planOf } from "./plan";
import { Steps } from "./Steps";

export type SetPlan = (change: Partial<Plan>, options?: { replace: boolean }) => void;

/** From a language model to an SAE that is indexed and measured, step by step. The address holds where it is. */
export default function StartPage() {
  const [search, setSearch] = useSearchParams();
  const plan = planOf(search);
  const setPlan: SetPlan = useCallback(
    (change, options) => setSearch((before) => paramsOf({ ...planOf(before), ...change }), options),
    [setSearch],
  );
  const content = useRef<HTMLDivElement>(null);
  const lastStep = useRef(plan.step);
  useEffect(() => {
    if (lastStep.current === plan.step) return;
    lastStep.current = plan.step;
    content.current?.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }, [plan.step]);

  return (
    <>
      <PageHeading title="Make an SAE" />
      <Steps
        plan={plan}
        onStep={(step) =>
          setPlan(step === "model" ? { step, model: null, layer: null, earlier: null } : { step })
        }
      />
      {/* The focus goes here with each step, so that Tab leads to its first control. */}
      <div ref={content} tabIndex={-1} className="stack" style={{ outline: "none" }}>
        {plan.step === "model" && <ModelStep setPlan={setPlan} />}
        {plan.step === "progress" && <Progress plan={plan} setPlan={setPlan} />}
        {plan.model && plan.step !== "model" && plan.step !== "progress" && (
          <LoadedSteps plan={plan} languageModelId={plan.model} setPlan={setPlan} />
        )}
      </div>
    </>
  );
}
