import { type FormEvent, useState } from "react";
import { useAction, useData } from "../../api/hooks";
import { messageAt } from "../../api/problems";
import { Card } from "../../components/Card";
import { TextField } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import { CapturePageLoadMutationDocument } from "../CapturePage/CapturePage.generated";
import styles from "./Choices.module.css";
import { nameFor, newPaths, sourceOf } from "./modelSources";
import type { SetPlan } from "./StartPage";
import {
  StartPageAddMutationDocument,
  StartPagePathsQueryDocument,
  StartPageQueryDocument,
} from "./StartPage.generated";

interface Choice {
  key: string;
  title: string;
  hint: string;
}

/** Which language model: one that is here, one that the server has files of, any path, or one of the Hub. */
export function ModelStep({ setPlan }: { setPlan: SetPlan }) {
  const { data, problem, reload } = useData(StartPageQueryDocument, {});
  const paths = useData(StartPagePathsQueryDocument, {});
  const [picked, setPicked] = useState<string | null>(null);
  const [path, setPath] = useState("");
  const [repository, setRepository] = useState("");
  const add = useAction(StartPageAddMutationDocument);
  const load = useAction(CapturePageLoadMutationDocument);
  const known = data?.languageModels ?? [];

  if (!data || (!paths.data && !paths.problem)) {
    return problem ? <ErrorBox problem={problem} onRetry={reload} /> : <p className="muted">Loading…</p>;
  }
  const found = newPaths(paths.data?.server.languageModelPaths ?? [], known);
  const choices: Choice[] = [
    ...known.map(({ id, name, source }) => ({ key: `model:${id}`, title: name, hint: source })),
    ...found.map((one) => ({ key: `path:${one}`, title: nameFor(one, []), hint: one })),
    ...(data.server.hubEnabled
      ? [{ key: "hub:", title: "One of the Hugging Face Hub", hint: "By its name, such as gpt2." }]
      : []),
    { key: "path:", title: "A directory or file on the server", hint: "By its path." },
  ];
  const chosen = picked ?? choices[0]?.key ?? "";
  const isTyped = chosen === "hub:" || chosen === "path:";
  const typed = (chosen === "hub:" ? repository : path).trim();
  const running = add.running || load.running;
  const error =
    messageAt(add.problem, chosen === "hub:" ? "source.huggingFace" : "source.path") ??
    messageAt(add.problem, "source");

  const onSubmit = async (event: FormEvent) => {
    event.preventDefault();
    const [kind, ...rest] = chosen.split(":");
    const given = rest.join(":");
    let id = given;
    if (kind !== "model") {
      const location = isTyped ? typed : given;
      const source = sourceOf(kind === "hub" ? "hub" : "path", location);
      const added = await add.run({ input: { name: nameFor(location, known), source } });
      if (added?.__typename !== "LanguageModelAdded") return;
      id = added.languageModel.id;
      // Where it is refused now, the next step offers it again.
      await load.run({ id });
    }
    setPlan({ model: id, step: "layer", earlier: null });
  };

  return (
    <Card title="Which language model?">
      <form className="stack" onSubmit={onSubmit}>
        <fieldset className={styles.choices}>
          <legend className="hidden-visually">Language model</legend>
          {choices.map(({ key, title, hint }) => (
            <label key={key} className={styles.choice}>
              <input type="radio" name="model" checked={key === chosen} onChange={() => setPicked(key)} />
              <span>
                <strong>{title}</strong>
                <span className={styles.hint}>{hint}</span>
              </span>
            </label>
          ))}
        </fieldset>
        {chosen === "hub:" && (
          <TextField
            label="Name on the Hub"
            placeholder="owner/name"
            value={repository}
            onChange={setRepository}
            error={error}
          />
        )}
        {chosen === "path:" && (
          <TextField
            label="Path"
            hint="Under one of the server's model directories (GQL_SERVER_MODEL_DIRS)."
            value={path}
            onChange={setPath}
            error={error}
          />
        )}
        {add.problem && !(isTyped && error) && <ErrorBox problem={add.problem} />}
        <div>
          <button type="submit" className="primary" disabled={running || (isTyped && typed === "")}>
            Use this model
          </button>
          <span role="status" className="muted">
            {running && " The server looks at its files…"}
          </span>
        </div>
      </form>
    </Card>
  );
}
