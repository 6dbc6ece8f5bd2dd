import { type FormEvent, useState } from "react";
import { Link } from "wouter";
import { useAction, useData } from "../../api/hooks";
import { NumberField, Select, TextArea, TextField } from "../../components/controls";
import { Dialog } from "../../components/Dialog";
import { ErrorBox } from "../../components/ErrorBox";
import type { SaeShown } from "./About";
import { type DatasetChoice, datasetOf, heldOut, isChosen, KINDS } from "./measure";
import { SaePageDatasetsQueryDocument, SaePageEvaluateMutationDocument } from "./SaePage.generated";

interface MeasureFormProps {
  sae: SaeShown;
  onClose: () => void;
}

/** On which texts to measure; proposed are those of the run's dataset that it has not been trained on. */
export function MeasureForm({ sae, onClose }: MeasureFormProps) {
  const [{ choice, offset, limit }, setForm] = useState(() => ({
    ...heldOut(sae.activationRun),
    limit: 256,
  }));
  const { run, running, problem } = useAction(SaePageEvaluateMutationDocument);
  const stored = useData(SaePageDatasetsQueryDocument, {}).data?.datasets.nodes ?? [];
  const choose = (changed: Partial<DatasetChoice>) =>
    setForm((form) => ({ ...form, choice: { ...form.choice, ...changed } }));
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const input = { saeId: sae.id, dataset: datasetOf(choice), sampleOffset: offset, sampleLimit: limit };
    if (await run({ input })) onClose();
  };
  return (
    <Dialog title="Measure this SAE" onClose={onClose}>
      <form className="stack" onSubmit={submit}>
        <p className="muted">
          The model runs with the SAE's reconstruction in the layer's place. Take texts that the SAE was not
          trained on.
        </p>
        <Select
          label="Texts"
          value={choice.kind}
          options={KINDS}
          onChange={(kind) => {
            setForm((form) => ({ ...form, choice: { ...form.choice, kind }, offset: 0 }));
          }}
        />
        {choice.kind === "STORED" &&
          (stored.length > 0 ? (
            <Select
              label="Dataset"
              value={choice.datasetId}
              options={[
                { value: "", label: "Choose one" },
                ...stored.map(({ id, name }) => ({ value: id, label: name })),
              ]}
              onChange={(datasetId) => choose({ datasetId })}
            />
          ) : (
            <p>
              No dataset is kept. <Link href="/datasets">Upload one</Link>
            </p>
          ))}
        {choice.kind === "HUB" && (
          <div className="row">
            <TextField
              label="Repository"
              value={choice.repository}
              onChange={(repository) => choose({ repository })}
            />
            <TextField label="Split" value={choice.split} onChange={(split) => choose({ split })} />
          </div>
        )}
        {choice.kind === "FILE" && (
          <TextField
            label="Path on the server"
            value={choice.path}
            onChange={(path) => choose({ path })}
            hint="Under one of the server's dataset directories."
          />
        )}
        {(choice.kind === "HUB" || choice.kind === "FILE") && (
          <TextField
            label="Column of the texts"
            value={choice.textField}
            onChange={(textField) => choose({ textField })}
          />
        )}
        {choice.kind === "TEXTS" && (
          <TextArea
            label="Texts, one a line"
            value={choice.texts}
            rows={6}
            onChange={(texts) => choose({ texts })}
          />
        )}
        <div className="row">
          <NumberField
            label="Leave out at the start"
            min={0}
            step={1}
            value={offset}
            onChange={(value) => setForm((form) => ({ ...form, offset: value ?? 0 }))}
          />
          <NumberField
            label="Texts, at most"
            min={1}
            step={1}
            value={limit}
            onChange={(value) => setForm((form) => ({ ...form, limit: value ?? 1 }))}
          />
        </div>
        {problem && <ErrorBox problem={problem} />}
        <p>
          <button type="submit" className="primary" disabled={running || !isChosen(choice)}>
            Measure
          </button>
        </p>
      </form>
    </Dialog>
  );
}
