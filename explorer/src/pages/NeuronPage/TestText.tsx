import { useSearchParams } from "wouter";
import { useData } from "../../api/hooks";
import { refusalOf } from "../../api/problems";
import { Card } from "../../components/Card";
import { Checkbox, TextArea } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import { precise } from "../../components/numbers";
import { TokenText } from "../../components/TokenText";
import { useDelayed, useTyped } from "../SaePage/useDelayed";
import { NeuronPageTestQueryDocument } from "./NeuronPage.generated";
import styles from "./Texts.module.css";

/** Shorter than a pause between words, longer than one between letters. */
const TYPING_MS = 250;
const ADDRESS_MS = 600;

interface TestTextProps {
  saeId: string;
  index: number;
  /** Its highest activation in the index, which has the strongest shade. */
  max: number | null;
}

/** Where the neuron fires on a text of one's own, while it is typed. A text that has moved on is canceled. */
export function TestText({ saeId, index, max }: TestTextProps) {
  const [address, setAddress] = useSearchParams();
  const set = (key: string, value: string) =>
    setAddress(
      (before) => {
        const next = new URLSearchParams(before);
        if (value) next.set(key, value);
        else next.delete(key);
        return next;
      },
      { replace: true },
    );
  const [text, setText] = useTyped(address.get("text") ?? "", (typed) => set("text", typed), ADDRESS_MS);
  const chat = address.get("chat") === "yes";
  const asked = useDelayed(text, TYPING_MS);
  const isEmpty = asked.trim() === "";
  const { data, problem, loading, reload } = useData(
    NeuronPageTestQueryDocument,
    { saeId, prompts: [asked], neuronIndices: [index], chat },
    { pause: isEmpty, policy: "cache-first" },
  );
  const result = isEmpty ? undefined : data?.neuronActivations;
  const refusal = result && refusalOf(result);
  const prompt = result?.__typename === "NeuronActivations" ? result.prompts[0] : undefined;
  const row = prompt?.rows[0];
  const isOld = loading || asked !== text;
  return (
    <Card title="Test it with your own text">
      <TextArea label="Text" value={text} rows={3} onChange={setText} />
      <Checkbox
        label="As a user's message, through the chat template"
        value={chat}
        onChange={(value) => set("chat", value ? "yes" : "")}
      />
      {!isEmpty && problem && <ErrorBox problem={problem} onRetry={reload} />}
      {refusal && <ErrorBox problem={refusal} onRetry={reload} />}
      {prompt && row && (
        <div className={isOld ? styles.old : undefined} aria-busy={isOld}>
          <TokenText
            tokens={prompt.tokens}
            activations={row.values}
            max={Math.max(max ?? 0, row.max)}
            {...(row.max > 0 && { peak: row.values.indexOf(row.max) })}
          />
        </div>
      )}
      <p className="muted" role="status">
        {isEmpty
          ? "It is run through the model as you type."
          : row && !isOld
            ? row.max > 0
              ? `Highest ${precise(row.max)}${max ? `, ${Math.round((100 * row.max) / max)}% of the highest in the index` : ""}.`
              : "It does not fire on this text."
            : loading || isOld
              ? "Running…"
              : ""}
      </p>
    </Card>
  );
}
