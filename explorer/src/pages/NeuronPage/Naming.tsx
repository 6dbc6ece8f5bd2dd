import { type FormEvent, useEffect, useState } from "react";
import { useAction } from "../../api/hooks";
import { Card } from "../../components/Card";
import { NumberField, TextArea, TextField } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import { Time } from "../../components/Time";
import { plain } from "../../components/words";
import { History } from "./History";
import {
  NeuronPageNameMutationDocument,
  NeuronPageUndoMutationDocument,
  NeuronPageUnnameMutationDocument,
} from "./NeuronPage.generated";
import { draftOf, isChanged, isNewer, lastVersion, type Named, undoOf } from "./naming";

interface NamingProps {
  saeId: string;
  neuron: Named;
}

/** The neuron's name: to give, change, take back and delete. What is typed stays when somebody else names it. */
export function Naming({ saeId, neuron }: NamingProps) {
  // What the draft was made from; the newest may be another one.
  const [base, setBase] = useState(neuron);
  const [draft, setDraft] = useState(draftOf(neuron));
  const naming = useAction(NeuronPageNameMutationDocument);
  const undoing = useAction(NeuronPageUndoMutationDocument);
  const unnaming = useAction(NeuronPageUnnameMutationDocument);
  const problem = naming.problem ?? undoing.problem ?? unnaming.problem;
  const isBusy = naming.running || undoing.running || unnaming.running;
  const { concept, index } = neuron;
  const isDirty = isChanged(draft, base);
  const isBehind = isNewer(neuron, base);
  const undo = undoOf(neuron);

  const take = (next: Named) => {
    setBase(next);
    setDraft(draftOf(next));
  };
  useEffect(() => {
    if (!isBehind || isDirty) return;
    setBase(neuron);
    setDraft(draftOf(neuron));
  }, [neuron, isBehind, isDirty]);

  const save = async (event: FormEvent) => {
    event.preventDefault();
    const { name, note, score } = draft;
    const given = { name: name.trim(), note: note || null, score };
    const done = await naming.run({
      input: { saeId, neuronIndex: index, expectedVersion: lastVersion(base), ...given },
    });
    if (!done) return;
    setBase(done.concept.neuron);
    // What has been typed since then stays.
    setDraft((now) => (now === draft ? draftOf(done.concept.neuron) : now));
  };
  const restore = async (version: number) => {
    const expectedVersion = lastVersion(neuron);
    const done = await undoing.run({ saeId, neuronIndex: index, version, expectedVersion });
    if (done) take(done.concept.neuron);
  };
  const unname = async () => {
    if (concept && (await unnaming.run({ id: concept.id }))) take({ ...neuron, concept: null });
  };
  return (
    <Card title="Name" aside={concept && <span className="muted">{plain(concept.source)}</span>}>
      <form className="stack" onSubmit={save}>
        <TextField
          label="Name"
          value={draft.name}
          onChange={(name) => setDraft({ ...draft, name })}
          placeholder="What makes it fire?"
        />
        <TextArea
          label="Note"
          value={draft.note}
          onChange={(note) => setDraft({ ...draft, note })}
          rows={2}
        />
        <NumberField
          label="How sure, 0 to 1"
          min={0}
          max={1}
          value={draft.score}
          onChange={(score) => setDraft({ ...draft, score })}
        />
        <div className="row">
          <button type="submit" className="primary" disabled={isBusy || !isDirty || draft.name.trim() === ""}>
            Save
          </button>
          {undo && (
            <button
              type="button"
              disabled={isBusy}
              onClick={() => (undo.version === null ? unname() : restore(undo.version))}
            >
              {undo.name === null ? "Undo: no name" : `Undo: “${shortened(undo.name)}”`}
            </button>
          )}
          {concept && (
            <button type="button" disabled={isBusy} onClick={unname}>
              Delete
            </button>
          )}
        </div>
      </form>
      {isBehind && isDirty && (
        <div role="status" className="row">
          <p>
            Somebody has changed the name meanwhile:{" "}
            {concept ? <strong>{concept.name}</strong> : "there is none now"}.
          </p>
          <button type="button" onClick={() => take(neuron)}>
            Take it
          </button>
          <button type="button" onClick={() => setBase(neuron)}>
            Keep mine
          </button>
        </div>
      )}
      {problem && <ErrorBox problem={problem} />}
      {concept && (
        <p className="muted">
          Changed <Time at={concept.updatedAt} />
        </p>
      )}
      {neuron.conceptHistory.length > 0 && (
        <details>
          <summary>History ({neuron.conceptHistory.length})</summary>
          <History neuron={neuron} disabled={isBusy} onRestore={restore} />
        </details>
      )}
    </Card>
  );
}

function shortened(name: string): string {
  return name.length > 24 ? `${name.slice(0, 23)}…` : name;
}
