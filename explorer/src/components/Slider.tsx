import { Field } from "./Field";
import { precise } from "./numbers";
import styles from "./Slider.module.css";

interface SliderProps {
  label: string;
  value: number;
  min: number;
  max: number;
  step?: number;
  onChange: (value: number) => void;
  /** Values worth a mark on the track, such as "typical". */
  marks?: readonly number[];
  hint?: string;
}

/** A slider with its value beside it, which can be typed, too, also beyond the slider's ends. */
export function Slider({ label, value, min, max, step, onChange, marks = [], hint }: SliderProps) {
  const set = (next: number) => Number.isFinite(next) && onChange(next);
  const by = step ?? (max - min) / 100;
  return (
    <Field label={label} hint={hint}>
      {(control) => (
        <span className={styles.slider}>
          <input
            {...control}
            type="range"
            list={`${control.id}-marks`}
            min={min}
            max={max}
            step={by}
            value={value}
            aria-valuetext={precise(value)}
            onChange={(event) => set(event.target.valueAsNumber)}
          />
          <datalist id={`${control.id}-marks`}>
            {marks.map((mark) => (
              <option key={mark} value={mark} />
            ))}
          </datalist>
          <input
            type="number"
            aria-label={`${label}, as a number`}
            step="any"
            value={Number(value.toPrecision(4))}
            onChange={(event) => set(event.target.valueAsNumber)}
          />
        </span>
      )}
    </Field>
  );
}
