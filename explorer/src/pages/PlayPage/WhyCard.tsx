import { type FormEvent, useState } from "react";
import { Card } from "../../components/Card";
import { TextField } from "../../components/controls";
import styles from "./PlayPage.module.css";
import type { Edit, PlaySettings } from "./settings";
import { WhyResult } from "./WhyResult";
import { type WhyAsked, whyEnd } from "./why";

interface WhyCardProps {
  saeId: string;
  settings: PlaySettings;
  asked: WhyAsked | null;
  onAsk: (asked: WhyAsked) => void;
  onEdit: (edit: Edit) => void;
  /** Generates with the edits. */
  onRun: () => void;
}

/** Which neurons make the model write a token: what to edit to change that. */
export function WhyCard({ saeId, settings, asked, onAsk, onEdit, onRun }: WhyCardProps) {
  const [target, setTarget] = useState("");
  const [contrast, setContrast] = useState("");
  const { prompt, chat } = settings;
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    onAsk(whyEnd(prompt, chat, target, contrast));
  };
  return (
    <Card title="Why did the model say that?">
      <p className="muted">
        Choose a token of a generated text, or ask about the token after the prompt. What is explained is the
        model as it is, without edits.
      </p>
      <form className={styles.finder} onSubmit={onSubmit}>
        <TextField
          label="Token after the prompt"
          placeholder="The most probable one"
          value={target}
          onChange={setTarget}
        />
        <TextField
          label="Rather than"
          placeholder="Another, such as “ Paris”"
          value={contrast}
          onChange={setContrast}
        />
        <button type="submit" disabled={prompt === ""}>
          Explain
        </button>
      </form>
      {asked && (
        <WhyResult key={JSON.stringify(asked)} edits={settings.edits} {...{ saeId, asked, onEdit }} />
      )}
      {asked && settings.edits.length > 0 && (
        <div className="row">
          <button type="button" onClick={onRun} disabled={prompt === ""}>
            Generate with the edits
          </button>
          <span className="muted">{settings.edits.map(({ index }) => `#${index}`).join(", ")}</span>
        </div>
      )}
    </Card>
  );
}
