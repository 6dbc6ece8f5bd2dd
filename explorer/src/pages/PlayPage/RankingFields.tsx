import { Checkbox, Select } from "../../components/controls";
import { percent, whole } from "../../components/numbers";
import { DENSE, type Ranking } from "./ranking";

const ORDERS = [
  { value: "activation", label: "Activation" },
  { value: "relative", label: "Share of its own maximum" },
] as const;

interface RankingFieldsProps {
  ranking: Ranking;
  onChange: (ranking: Ranking) => void;
  /** How many of the prompt's neurons are left out. */
  hidden: number;
}

/** Which of the neurons that fire on the prompt are shown first. */
export function RankingFields({ ranking, onChange, hidden }: RankingFieldsProps) {
  return (
    <div className="row">
      <Select
        label="Strongest by"
        value={ranking.order}
        options={ORDERS}
        onChange={(order) => onChange({ ...ranking, order })}
      />
      <Checkbox
        label={`Hide neurons that fire on more than ${percent(DENSE)} of tokens`}
        value={ranking.hidesDense}
        onChange={(hidesDense) => onChange({ ...ranking, hidesDense })}
      />
      <span className="muted" role="status">
        {hidden > 0 && `${whole(hidden)} of the 100 that fire most are hidden.`}
      </span>
    </div>
  );
}
