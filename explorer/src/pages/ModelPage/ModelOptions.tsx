import { type FormEvent, useState } from "react";
import { useAction } from "../../api/hooks";
import { Card } from "../../components/Card";
import { Select } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import type { Model } from "./ModelFacts";
import { ModelPageUpdateMutationDocument } from "./ModelPage.generated";

const BOS = [
  { value: "tokenizer", label: "As the tokenizer does" },
  { value: "always", label: "Always write one" },
  { value: "never", label: "Never write one" },
] as const;

type Bos = (typeof BOS)[number]["value"];

/** Whether a BOS is written, and the tokens that do not count as content. */
export function ModelOptions({ model }: { model: Model }) {
  const saved: Bos = model.addBos === null ? "tokenizer" : model.addBos ? "always" : "never";
  const [bos, setBos] = useState<Bos>(saved);
  const { run, problem, running } = useAction(ModelPageUpdateMutationDocument);
  const tokens = model.specialTokens?.filter(({ counts }) => !counts) ?? [];
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    const addBos = bos === "tokenizer" ? null : bos === "always";
    void run({ input: { id: model.id, addBos, expectedVersion: model.optionsVersion } });
  };
  if (!model.layers) return null;
  return (
    <Card title="Options">
      <form className="stack" onSubmit={onSubmit}>
        <Select
          label="Beginning of text (BOS)"
          hint={
            model.writesBos === null
              ? undefined
              : `Now ${model.writesBos ? "something is" : "nothing is"} written before texts. A change concerns what is captured from then on.`
          }
          value={bos}
          options={BOS}
          onChange={setBos}
        />
        {problem && <ErrorBox problem={problem} />}
        {tokens.length > 0 && (
          <p className="muted">
            Tokens that do not count:{" "}
            {tokens
              .slice(0, 20)
              .map(({ text, tokenId }) => text ?? `#${tokenId}`)
              .join(" ")}
            {tokens.length > 20 && ` and ${tokens.length - 20} more`}
          </p>
        )}
        <div>
          <button type="submit" disabled={running || bos === saved}>
            Save
          </button>
        </div>
      </form>
    </Card>
  );
}
