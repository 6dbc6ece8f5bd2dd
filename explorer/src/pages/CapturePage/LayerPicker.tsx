import { useEffect, useRef, useState } from "react";
import { Checkbox } from "../../components/controls";
import styles from "./LayerPicker.module.css";
import { drawingOf, kindOf, type Layer, titleOf } from "./layers";

interface LayerPickerProps {
  layers: readonly Layer[];
  /** Names. */
  chosen: readonly string[];
  onChange: (names: string[]) => void;
  /** Several at once, or one. */
  multiple?: boolean;
  error?: string | undefined;
}

/** The model drawn from its input to its output; each row is a block, each chip a layer to listen to. */
export function LayerPicker({ layers, chosen, onChange, multiple = false, error }: LayerPickerProps) {
  const [everything, setEverything] = useState(false);
  const model = useRef<HTMLFieldSetElement>(null);
  useEffect(() => {
    const { current } = model;
    const chosenRow = current?.querySelector(":checked")?.closest("div");
    // In a deep model what is chosen may be below the part that is seen.
    if (current && chosenRow) current.scrollTop = chosenRow.offsetTop - current.clientHeight / 2;
  }, []);
  const { before, blocks, after } = drawingOf(layers, everything);
  const toggle = (name: string, isOn: boolean) => {
    if (!multiple) onChange([name]);
    else onChange(isOn ? [...chosen, name] : chosen.filter((other) => other !== name));
  };
  const chip = (layer: Layer) => (
    <label key={layer.name} className={styles.chip} data-kind={layer.kind} title={layer.name}>
      <input
        type={multiple ? "checkbox" : "radio"}
        name="layer"
        aria-label={titleOf(layer)}
        checked={chosen.includes(layer.name)}
        onChange={(event) => toggle(layer.name, event.target.checked)}
      />
      {kindOf(layer)}
    </label>
  );
  const titles = layers.filter(({ name }) => chosen.includes(name)).map(titleOf);

  return (
    <div className="stack">
      <div className="row">
        <span>
          {titles.length === 0 ? <span className="muted">No layer is chosen.</span> : titles.join(", ")}
        </span>
        <Checkbox label="Norms and other modules, too" value={everything} onChange={setEverything} />
      </div>
      {error && (
        <p role="alert" className={styles.error}>
          {error}
        </p>
      )}
      <fieldset ref={model} className={styles.model}>
        <legend className="hidden-visually">Layers, from the model's input to its output</legend>
        <p className={styles.end}>Tokens in ↓</p>
        {before.length > 0 && <div className={styles.outside}>{before.map(chip)}</div>}
        {blocks.map(({ depth, parts, whole }) => (
          <div key={depth} className={styles.block}>
            <span className={styles.depth}>{depth}</span>
            <span className={styles.parts}>{parts.map(chip)}</span>
            {whole && chip(whole)}
          </div>
        ))}
        {after.length > 0 && <div className={styles.outside}>{after.map(chip)}</div>}
        <p className={styles.end}>Next token out ↓</p>
      </fieldset>
    </div>
  );
}
