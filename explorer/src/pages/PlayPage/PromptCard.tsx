import type { KeyboardEvent } from "react";
import { Card } from "../../components/Card";
import { Checkbox } from "../../components/controls";
import { Field } from "../../components/Field";
import { linkable, type PlaySettings } from "./settings";
import type { Change } from "./usePlaySettings";

interface PromptCardProps {
  settings: PlaySettings;
  change: Change;
  error: string | undefined;
  onLook: () => void;
  onRun: () => void;
}

/** What the model goes on from. Ctrl and Enter generate. */
export function PromptCard({ settings, change, error, onLook, onRun }: PromptCardProps) {
  const { prompt, chat } = settings;
  const { isWhole } = linkable(settings);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    onRun();
  };
  return (
    <Card title="Prompt">
      <Field
        label={chat ? "Message to the model" : "Text that the model goes on from"}
        hint={
          isWhole
            ? "Ctrl Enter generates."
            : "Ctrl Enter generates. The prompt is too long for a link: the address is without it."
        }
        error={error}
      >
        {(control) => (
          <textarea
            {...control}
            rows={3}
            value={prompt}
            onChange={(event) => change((before) => ({ ...before, prompt: event.target.value }))}
            onKeyDown={onKeyDown}
          />
        )}
      </Field>
      <div className="row">
        <button type="button" onClick={onLook} disabled={prompt === ""}>
          Find its neurons
        </button>
        <Checkbox
          label="As a chat message"
          value={chat}
          onChange={(value) => change((before) => ({ ...before, chat: value }))}
        />
      </div>
    </Card>
  );
}
