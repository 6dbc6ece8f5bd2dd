import { type FormEvent, useState } from "react";
import { useAction } from "../../api/hooks";
import { Select, TextField } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import { type PlayPage_ConfigFragment, PlayPageSaveMutationDocument } from "./PlayPage.generated";
import styles from "./PlayPage.module.css";
import type { Edit, PlaySettings } from "./settings";
import type { Change } from "./usePlaySettings";

interface SavedConfigsProps {
  saeId: string;
  configs: readonly PlayPage_ConfigFragment[];
  settings: PlaySettings;
  change: Change;
}

/** Returns a config's edits as those of the page. */
export function editsOf(config: PlayPage_ConfigFragment): Edit[] {
  return config.edits.map(({ neuron, multiplier, bias }) => ({ index: neuron.index, multiplier, bias }));
}

/** Loads the edits of a saved config, and saves those of the page. */
export function SavedConfigs({ saeId, configs, settings, change }: SavedConfigsProps) {
  const save = useAction(PlayPageSaveMutationDocument);
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
