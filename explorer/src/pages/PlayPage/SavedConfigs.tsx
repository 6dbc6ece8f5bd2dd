import { type FormEvent, useState } from "react";
import { useAction } from "../../api/hooks";
import { ConfirmButton } from "../../components/ConfirmButton";
import { Select, TextField } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import {
  type PlayPage_ConfigFragment,
  PlayPageDeleteMutationDocument,
  PlayPageSaveMutationDocument,
} from "./PlayPage.generated";
import styles from "./PlayPage.module.css";
import type { Edit, PlaySettings } from "./settings";
import type { Change } from "./usePlaySettings";

interface SavedConfigsProps {
  saeId: string;
  configs: readonly PlayPage_ConfigFragment[];
  settings: PlaySettings;
  change: Change;
  /** Asks for the configs again. */
  onDeleted: () => void;
}

/** Returns a config's edits as those of the page. */
export function editsOf(config: PlayPage_ConfigFragment): Edit[] {
  return config.edits.map(({ neuron, multiplier, bias }) => ({ index: neuron.index, multiplier, bias }));
}

/** Loads the edits of a saved config, saves those of the page, and deletes what was saved. */
export function SavedConfigs({ saeId, configs, settings, change, onDeleted }: SavedConfigsProps) {
  const save = useAction(PlayPageSaveMutationDocument);
  const remove = useAction(PlayPageDeleteMutationDocument);
  const [name, setName] = useState("");
  const [told, setTold] = useState("");
  const { edits } = settings;
  const loaded = configs.find(({ id }) => id === settings.config);

  const load = (id: string) => {
    const config = configs.find((one) => one.id === id);
    setTold("");
    save.clear();
    change((before) => ({
      ...before,
      config: config?.id ?? null,
      edits: config ? editsOf(config) : before.edits,
    }));
  };
  const write = async (replaced: PlayPage_ConfigFragment | null) => {
    const input = {
      saeId,
      id: replaced?.id ?? null,
      name: replaced?.name ?? name,
      expectedVersion: replaced?.version ?? null,
      edits: edits.map(({ index, multiplier, bias }) => ({
        neuronIndex: index,
        multiplier,
        bias: bias ?? 0,
      })),
    };
    const saved = await save.run({ input });
    if (!saved?.conceptConfig) return;
    const { id } = saved.conceptConfig;
    setTold(`Saved as ${saved.conceptConfig.name}.`);
    setName("");
    change((before) => ({ ...before, config: id }));
  };
  const onDelete = async (config: PlayPage_ConfigFragment) => {
    if (!(await remove.run({ id: config.id }))) return false;
    setTold(`Deleted ${config.name}. Its edits are still on this page.`);
    change((before) => ({ ...before, config: null }));
    onDeleted();
    return true;
  };
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    void write(null);
  };

  return (
    <>
      {configs.length > 0 && (
        <div className={styles.finder}>
          <Select
            label="Saved edits"
            value={loaded?.id ?? ""}
            options={[
              { value: "", label: "Choose…" },
              ...configs.map((config) => ({ value: config.id, label: config.name })),
            ]}
            onChange={load}
          />
          {loaded && edits.length > 0 && (
            <button type="button" disabled={save.running} onClick={() => void write(loaded)}>
              Save the changes
            </button>
          )}
          {loaded && (
            <ConfirmButton
              label="Delete"
              question={`Delete ${loaded.name}?`}
              onConfirm={() => onDelete(loaded)}
              problem={remove.problem}
              running={remove.running}
            >
              <p>The saved edits go, also from links to them. Those on this page stay.</p>
            </ConfirmButton>
          )}
        </div>
      )}
      {edits.length > 0 && (
        <form className={styles.finder} onSubmit={onSubmit}>
          <TextField label="Save these edits as" placeholder="A name" value={name} onChange={setName} />
          <button type="submit" disabled={name.trim() === "" || save.running}>
            Save
          </button>
        </form>
      )}
      {save.problem && <ErrorBox problem={save.problem} />}
      <p role="status" className="muted">
        {told}
      </p>
    </>
  );
}
