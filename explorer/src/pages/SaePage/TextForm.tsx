import { type FormEvent, useState } from "react";
import { TextField } from "../../components/controls";

interface TextFormProps {
  label: string;
  value: string;
  action: string;
  disabled: boolean;
  onSave: (value: string) => void;
}

/** One text with a button to save it. */
export function TextForm({ label, value, action, disabled, onSave }: TextFormProps) {
  const [text, setText] = useState(value);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    onSave(text.trim());
  };
  return (
    <form className="stack" onSubmit={submit}>
      <TextField label={label} value={text} onChange={setText} />
      <p>
        <button type="submit" className="primary" disabled={disabled || text.trim() === ""}>
          {action}
        </button>
      </p>
    </form>
  );
}
