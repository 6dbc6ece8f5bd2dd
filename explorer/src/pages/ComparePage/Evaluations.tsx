import { useState } from "react";
import { Card } from "../../components/Card";
import { Select } from "../../components/controls";
import { EvaluateForm } from "./EvaluateForm";
import { basesOf, basisOf, type ComparedSae, figuresOf } from "./facts";
import { SideBySide } from "./SideBySide";

interface EvaluationsProps {
  saes: readonly ComparedSae[];
  /** What they were measured on, in words; the best choice by default. */
  chosen: string | null;
  onChoose: (basis: string) => void;
}

/** Figures on the same texts, and how to get them. */
export function Evaluations({ saes, chosen, onChoose }: EvaluationsProps) {
  const bases = basesOf(saes);
  const basis = bases.find((one) => one === chosen) ?? bases[0];
  const evaluations = saes.map((sae) => sae.evaluations.find((one) => basisOf(one) === basis));
  const missing = evaluations.filter((one) => one === undefined).length;
  const [isOpen, setOpen] = useState(false);
  return (
    <Card
      title="Evaluations"
      aside={
        <button type="button" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
          Evaluate…
        </button>
      }
    >
      {isOpen && <EvaluateForm saes={saes} />}
      {basis === undefined ? (
        <p className="muted">None has been evaluated yet. Evaluate all on the same texts to compare them.</p>
      ) : (
        <>
          <Select
            label="Measured on"
            value={basis}
            options={bases.map((value) => ({ value, label: value }))}
            onChange={onChoose}
          />
          <SideBySide caption="Evaluations" saes={saes} facts={figuresOf(evaluations)} />
          {missing > 0 && (
            <p className="muted">
              {missing === 1 ? "One has" : `${missing} have`} not been measured on these texts: only figures
              on the same tokens can be compared.
            </p>
          )}
        </>
      )}
    </Card>
  );
}
