import type { Plan, Step } from "./plan";
import styles from "./Steps.module.css";

const TITLES: readonly [Step, string][] = [
  ["model", "Language model"],
  ["layer", "Layer"],
  ["texts", "Texts"],
  ["training", "Training"],
  ["progress", "Making it"],
];

interface StepsProps {
  plan: Plan;
  onStep: (step: Step) => void;
}

/** Where one is; leads back to earlier steps until something has been launched. */
export function Steps({ plan, onStep }: StepsProps) {
  const place = TITLES.findIndex(([step]) => step === plan.step);
  return (
    <nav aria-label="Steps">
      <ol className={styles.steps}>
        {TITLES.map(([step, title], index) => (
          <li
            key={step}
            className={styles.step}
            data-done={index < place}
            aria-current={step === plan.step ? "step" : undefined}
          >
            {index < place && plan.step !== "progress" ? (
              <button type="button" className="plain" onClick={() => onStep(step)}>
                {index + 1}. {title}
              </button>
            ) : (
              <span>
                {index + 1}. {title}
              </span>
            )}
          </li>
        ))}
      </ol>
    </nav>
  );
}
