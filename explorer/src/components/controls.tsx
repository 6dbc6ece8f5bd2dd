import styles from "./controls.module.css";
import { Field } from "./Field";

interface Control<Value> {
  label: string;
  value: Value;
  onChange: (value: Value) => void;
  hint?: string | undefined;
  error?: string | undefined;
  disabled?: boolean;
}

export function TextField({
  value,
  onChange,
  disabled,
  placeholder,
  type = "text",
  ...field
}: Control<string> & { placeholder?: string; type?: "text" | "search" | "url" }) {
  return (
    <Field {...field}>
      {(control) => (
        <input
          {...control}
          type={type}
          placeholder={placeholder}
          disabled={disabled}
          value={value}
          onChange={(event) => onChange(event.target.value)}
        />
      )}
    </Field>
  );
}

export function TextArea({
  value,
  onChange,
  disabled,
  rows = 4,
  ...field
}: Control<string> & { rows?: number }) {
  return (
    <Field {...field}>
      {(control) => (
        <textarea
          {...control}
          rows={rows}
          disabled={disabled}
          value={value}
          onChange={(event) => onChange(event.target.value)}
        />
      )}
    </Field>
  );
}

/** A number, or null where the field is empty. */
export function NumberField({
  value,
  onChange,
  disabled,
  min,
  max,
  step = "any",
  placeholder,
  ...field
}: Control<number | null> & { min?: number; max?: number; step?: number | "any"; placeholder?: string }) {
  return (
    <Field {...field}>
      {(control) => (
        <input
          {...control}
          type="number"
          inputMode="decimal"
          min={min}
          max={max}
          step={step}
          placeholder={placeholder}
          disabled={disabled}
          value={value ?? ""}
          onChange={(event) => onChange(event.target.value === "" ? null : event.target.valueAsNumber)}
        />
      )}
    </Field>
  );
}

export interface Option<Value extends string> {
  value: Value;
  label: string;
}

export function Select<Value extends string>({
  value,
  onChange,
  options,
  disabled,
  ...field
}: Control<Value> & { options: readonly Option<Value>[] }) {
  return (
    <Field {...field}>
      {(control) => (
        <select
          {...control}
          disabled={disabled}
          value={value}
          onChange={(event) => {
            const chosen = options.find((option) => option.value === event.target.value);
            if (chosen) onChange(chosen.value);
          }}
        >
          {options.map((option) => (
            <option key={option.value} value={option.value}>
              {option.label}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

export function Checkbox({ label, value, onChange, disabled }: Control<boolean>) {
  return (
    <label className={styles.checkbox}>
      <input
        type="checkbox"
        checked={value}
        disabled={disabled}
        onChange={(event) => onChange(event.target.checked)}
      />
      {label}
    </label>
  );
}
