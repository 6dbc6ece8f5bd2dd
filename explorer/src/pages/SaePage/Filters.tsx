import { NumberField, Select, TextField } from "../../components/controls";
import type { NeuronOrder } from "../../generated/types";
import styles from "./Filters.module.css";
import {
  type Bounds,
  FIELDS,
  FIELDS_WITHOUT_INDEX,
  filterOf,
  indicesIn,
  type NeuronList,
  ORDERS,
  ORDERS_WITHOUT_INDEX,
  SOURCES,
  withoutFilter,
} from "./neuronList";
import { useTyped } from "./useDelayed";

const TYPING_MS = 200;

export const ORDER_NAMES: Record<NeuronOrder, string> = {
  INDEX: "Index",
  FREQUENCY_DESC: "Most frequent first",
  FREQUENCY_ASC: "Rarest first",
  MAX_ACTIVATION_DESC: "Highest maximum first",
  MAX_ACTIVATION_ASC: "Lowest maximum first",
  MEAN_ACTIVATION_DESC: "Highest mean first",
  CONCEPT_NAME: "Name",
  CONCEPT_UPDATED_DESC: "Named last first",
};
const FIELD_NAMES = {
  CONCEPT: "Names",
  NOTE: "Notes",
  TOP_TEXTS: "Top texts",
  PROMOTED_TOKENS: "Promoted tokens",
} as const;
export const SOURCE_NAMES = {
  MANUAL: "A person",
  IMPORTED: "A file",
  GENERATED: "A program",
} as const;

const ANY = { value: "", label: "Any" } as const;

interface FiltersProps {
  list: NeuronList;
  onChange: (list: NeuronList) => void;
  hasFigures: boolean;
}

/** What is asked of neurons; orders and bounds of figures need an index. */
export function Filters({ list, onChange, hasFigures }: FiltersProps) {
  const [text, setText] = useTyped(list.search, (search) => onChange({ ...list, search }), TYPING_MS);
  const [numbers, setNumbers] = useTyped(
    numbersOf(list.indices),
    (typed) => onChange({ ...list, indices: indicesIn(typed) }),
    TYPING_MS,
    (typed) => numbersOf(indicesIn(typed)),
  );
  const isFiltered = filterOf(list) !== null;
  const orders = hasFigures ? ORDERS : ORDERS_WITHOUT_INDEX;
  return (
    <search className={styles.filters}>
      <div className={styles.wide}>
        <TextField
          label="Words"
          type="search"
          placeholder={hasFigures ? "In names, notes, texts and tokens" : "In names and notes"}
          value={text}
          onChange={setText}
        />
      </div>
      <Select
        label="Search in"
        value={list.searchIn ?? ""}
        options={[
          { value: "", label: "Everything" },
          ...(hasFigures ? FIELDS : FIELDS_WITHOUT_INDEX).map((value) => ({
            value,
            label: FIELD_NAMES[value],
          })),
        ]}
        onChange={(value) => onChange({ ...list, searchIn: value || null })}
      />
      <Select
        label="Order"
        value={list.order}
        options={orders.map((value) => ({ value, label: ORDER_NAMES[value] }))}
        onChange={(order) => onChange({ ...list, order })}
      />
      <YesNo
        label="Fires"
        value={list.dead === null ? null : !list.dead}
        disabled={!hasFigures}
        onChange={(fires) => onChange({ ...list, dead: fires === null ? null : !fires })}
      />
      <YesNo label="Has a name" value={list.named} onChange={(named) => onChange({ ...list, named })} />
      <Select
        label="Named by"
        value={list.source ?? ""}
        options={[ANY, ...SOURCES.map((value) => ({ value, label: SOURCE_NAMES[value] }))]}
        onChange={(value) => onChange({ ...list, source: value || null })}
      />
      <Range
        label="Frequency"
        hint="share of tokens"
        bounds={list.frequency}
        disabled={!hasFigures}
        onChange={(frequency) => onChange({ ...list, frequency })}
      />
      <Range
        label="Maximum"
        hint="activation"
        bounds={list.maximum}
        disabled={!hasFigures}
        onChange={(maximum) => onChange({ ...list, maximum })}
      />
      <TextField label="Numbers" placeholder="12 40 7" value={numbers} onChange={setNumbers} />
      <button
        type="button"
        className={styles.all}
        disabled={!isFiltered}
        onClick={() => onChange(withoutFilter(list))}
      >
        Show all
      </button>
    </search>
  );
}

function numbersOf(indices: readonly number[] | null): string {
  return indices?.join(" ") ?? "";
}

interface YesNoProps {
  label: string;
  value: boolean | null;
  onChange: (value: boolean | null) => void;
  disabled?: boolean;
}

function YesNo({ label, value, onChange, disabled = false }: YesNoProps) {
  return (
    <Select
      label={label}
      value={value === null ? "" : value ? "yes" : "no"}
      disabled={disabled}
      options={[ANY, { value: "yes", label: "Yes" }, { value: "no", label: "No" }]}
      onChange={(chosen) => onChange(chosen === "" ? null : chosen === "yes")}
    />
  );
}

interface RangeProps {
  label: string;
  hint: string;
  bounds: Bounds;
  onChange: (bounds: Bounds) => void;
  disabled: boolean;
}

function Range({ label, hint, bounds, onChange, disabled }: RangeProps) {
  return (
    <div className={styles.range} title={hint}>
      <NumberField
        label={`${label} from`}
        min={0}
        value={bounds.from}
        disabled={disabled}
        onChange={(from) => onChange({ ...bounds, from })}
      />
      <NumberField
        label="to"
        min={0}
        value={bounds.to}
        disabled={disabled}
        onChange={(to) => onChange({ ...bounds, to })}
      />
    </div>
  );
}
