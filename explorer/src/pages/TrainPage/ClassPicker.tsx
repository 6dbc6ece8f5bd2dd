import styles from "./ClassPicker.module.css";
import type { TrainPageQuery } from "./TrainPage.generated";

export type ClassInfo = TrainPageQuery["server"]["saeClassInfos"][number];

interface ClassPickerProps {
  classes: readonly ClassInfo[];
  chosen: string;
  onChange: (name: string) => void;
}

/** The SAE classes with what each is for. */
export function ClassPicker({ classes, chosen, onChange }: ClassPickerProps) {
  return (
    <fieldset className={styles.classes}>
      <legend className="hidden-visually">SAE class</legend>
      {classes.map(({ name, description, recommended, builtIn, needsK }) => (
        <label key={name} className={styles.class}>
          <input
            type="radio"
            name="class"
            value={name}
            checked={name === chosen}
            onChange={() => onChange(name)}
          />
          <span>
            <strong>{name}</strong>
            {recommended && <span className={styles.recommended}> recommended</span>}
            {!builtIn && <span className="muted"> from another package</span>}
            <span className={styles.description}>
              {description || "Its package does not describe it."} {needsK && "Takes k."}
            </span>
          </span>
        </label>
      ))}
    </fieldset>
  );
}
