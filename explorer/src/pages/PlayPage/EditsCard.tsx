import type { ReactNode } from "react";
import { Card } from "../../components/Card";
import { Select } from "../../components/controls";
import { precise } from "../../components/numbers";
import { Slider } from "../../components/Slider";
import { endsOf } from "./edits";
import { NeuronFinder } from "./NeuronFinder";
import { NeuronLink } from "./NeuronLink";
import type { PlayPage_NeuronFragment } from "./PlayPage.generated";
import styles from "./PlayPage.module.css";
import { type Edit, type PlaySettings, withEdit } from "./settings";
import type { Change } from "./usePlaySettings";

const MODES = [
  { value: "ERROR_PRESERVING", label: "Keep the SAE's error" },
  { value: "RECONSTRUCTION", label: "Use the reconstruction" },
] as const;

interface EditsCardProps {
  saeId: string;
  settings: PlaySettings;
  change: Change;
  neurons: ReadonlyMap<number, PlayPage_NeuronFragment>;
  latentCount: number | null | undefined;
  error: string | undefined;
  /** Saved configs. */
  children: ReactNode;
}

/** What is done to which neurons. */
export function EditsCard({
  saeId,
  settings,
  change,
  neurons,
  latentCount,
  error,
  children,
}: EditsCardProps) {
  const { edits, mode } = settings;
  const put = (edit: Edit) =>
    change((before) => ({
      ...before,
      edits: before.edits.map((one) => (one.index === edit.index ? edit : one)),
    }));
  const remove = (index: number) =>
    change((before) => ({ ...before, edits: before.edits.filter((one) => one.index !== index) }));
  return (
    <Card title="Edits" aside={<span className="muted">latent × multiplier + bias</span>}>
      {edits.length === 0 && (
        <p className="muted">
          None yet: the model writes as it does. Add a neuron of the map, or by its number or name.
        </p>
      )}
      {error && (
        <p role="alert" className={styles.error}>
          {error}
        </p>
      )}
      <ul className={styles.edits} aria-label="Edited neurons">
        {edits.map((edit) => (
          <li key={edit.index} className={styles.edit}>
            <EditRow
              saeId={saeId}
              edit={edit}
              neuron={neurons.get(edit.index)}
              isBeyond={latentCount != null && edit.index >= latentCount}
              put={put}
              remove={() => remove(edit.index)}
            />
          </li>
        ))}
      </ul>
      <NeuronFinder
        saeId={saeId}
        onFind={(index) => change((before) => withEdit(before, { index, multiplier: 1, bias: null }))}
      />
      {edits.length > 0 && (
        <Select
          label="How edits reach the layer's output"
          value={mode}
          options={MODES}
          onChange={(value) => change((before) => ({ ...before, mode: value }))}
        />
      )}
      {children}
    </Card>
  );
}

interface EditRowProps {
  saeId: string;
  edit: Edit;
  neuron: PlayPage_NeuronFragment | undefined;
  /** Whether the SAE has no such neuron. */
  isBeyond: boolean;
  put: (edit: Edit) => void;
  remove: () => void;
}

function EditRow({ saeId, edit, neuron, isBeyond, put, remove }: EditRowProps) {
  const { index, multiplier, bias } = edit;
  const ends = endsOf(neuron);
  const rounded = (value: number) => Number(value.toPrecision(4));
  const hint = neuron?.steeringRange
    ? `Typical ${precise(ends.typical)}; from ${precise(ends.strong)} on texts mostly fall to pieces.`
    : neuron && "How strongly it fires is not known: it never did, or the SAE has no index.";
  return (
    <>
      <div className={styles.editHead}>
        <strong>
          <NeuronLink saeId={saeId} neuron={neuron ?? { index, concept: null }} />
        </strong>
        <span className={styles.buttons}>
          <button type="button" onClick={() => put({ ...edit, multiplier: 0, bias: 0 })}>
            Off
          </button>
          <button type="button" onClick={() => put({ ...edit, multiplier: 1, bias: rounded(ends.typical) })}>
            Typical
          </button>
          <button
            type="button"
            className="plain"
            aria-label={`Remove the edit of #${index}`}
            onClick={remove}
          >
            ✕
          </button>
        </span>
      </div>
      {isBeyond && <p className={styles.error}>The SAE has no such neuron.</p>}
      <Slider
        label={`Bias of #${index}`}
        value={bias ?? 0}
        min={ends.suppress}
        max={ends.strong}
        marks={[0, ends.typical]}
        onChange={(value) => put({ ...edit, bias: rounded(value) })}
        {...(hint && { hint })}
      />
      <Slider
        label={`Multiplier of #${index}`}
        value={multiplier}
        min={0}
        max={4}
        step={0.05}
        marks={[0, 1, 2]}
        onChange={(value) => put({ ...edit, multiplier: rounded(value) })}
      />
    </>
  );
}
