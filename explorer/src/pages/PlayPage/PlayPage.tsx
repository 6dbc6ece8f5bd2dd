import { useEffect, useRef, useState } from "react";
import { Link, useParams, useSearchParams } from "wouter";
import { useData } from "../../api/hooks";
import { Card } from "../../components/Card";
import { Empty } from "../../components/Empty";
import { ErrorBox } from "../../components/ErrorBox";
import { PageHeading } from "../../components/PageHeading";
import { CopyLink } from "./CopyLink";
import { EarlierRuns } from "./EarlierRuns";
import { EditsCard } from "./EditsCard";
import { resolved } from "./edits";
import { isUnderWay } from "./generationRun";
import { type Looked, NeuronMapCard } from "./NeuronMapCard";
import { PlayPageQueryDocument } from "./PlayPage.generated";
import styles from "./PlayPage.module.css";
import { PromptCard } from "./PromptCard";
import { RunView } from "./RunView";
import { RUN } from "./runLink";
import { SamplingFields } from "./SamplingFields";
import { editsOf, SavedConfigs } from "./SavedConfigs";
import { withEditInstead } from "./settings";
import { useEditedNeurons } from "./useEditedNeurons";
import { useGeneration } from "./useGeneration";
import { usePlaySettings } from "./usePlaySettings";
import { WhyCard } from "./WhyCard";
import type { WhyAsked } from "./why";

/** Steers a model by an SAE's neurons: prompt, edits and sampling are in the address. */
export default function PlayPage() {
  const { id: saeId = "" } = useParams();
  return <Playground key={saeId} saeId={saeId} />;
}

function Playground({ saeId }: { saeId: string }) {
  const [search] = useSearchParams();
  const [settings, change] = usePlaySettings();
  const { data, problem, reload } = useData(PlayPageQueryDocument, { saeId });
  const { neurons, nameOf, isWaiting, problem: unknown } = useEditedNeurons(saeId, settings);
  const { runs, start, stop } = useGeneration(saeId);
  const [looked, setLooked] = useState<Looked | null>(settings.prompt === "" ? null : settings);
  const [asked, setAsked] = useState<WhyAsked | null>(null);
  const isToRun = useRef(search.get(RUN) === "1" && settings.prompt !== "");
  const [newest, ...earlier] = runs;
  const isBusy = newest !== undefined && isUnderWay(newest.state);
  const sae = data?.sae;

  const look = () => setLooked({ prompt: settings.prompt, chat: settings.chat });
  const run = () => {
    if (settings.prompt === "") return;
    start({ ...settings, edits: resolved(settings.edits, neurons) });
  };

  useEffect(() => {
    change((before) => {
      const edits = resolved(before.edits, neurons);
      return edits === before.edits ? before : { ...before, edits };
    });
  }, [neurons, change]);
  // A link to a saved config, without edits of its own, loads it once.
  const configs = sae?.conceptConfigs.nodes;
  const named = configs?.find(({ id }) => id === settings.config);
  const isToLoad = useRef(settings.config !== null && settings.edits.length === 0);
  // A link runs at once, but with the edits that it means.
  const isConfigToCome = configs === undefined ? !problem : named !== undefined;
  useEffect(() => {
    if (!isToRun.current || isWaiting || (isToLoad.current && isConfigToCome)) return;
    isToRun.current = false;
    start({ ...settings, edits: resolved(settings.edits, neurons) });
  }, [start, settings, neurons, isWaiting, isConfigToCome]);
  useEffect(() => {
    if (!named || !isToLoad.current) return;
    isToLoad.current = false;
    change((before) => ({ ...before, edits: editsOf(named) }));
  }, [named, change]);

  const fields = newest?.state.problem?.fields ?? [];
  const errorAt = (name: string) =>
    fields.find(({ path }) => path.replace(/^input\./, "").split(".")[0] === name)?.message;

  if (data && !sae) {
    return (
      <>
        <PageHeading title="There is no such SAE" />
        <Empty next={{ href: "/", label: "Show what is there" }}>It may have been deleted.</Empty>
      </>
    );
  }
  return (
    <>
      <PageHeading title={sae ? `Playground of ${sae.name}` : "Playground"}>
        <Link href={`/saes/${saeId}`}>All its neurons</Link>
        <Link href={`/saes/${saeId}/contrast`}>Contrast texts</Link>
      </PageHeading>
      {problem && <ErrorBox problem={problem} onRetry={reload} />}
      {unknown && <ErrorBox problem={unknown} />}
      {sae && (
        <p className="muted">
          {sae.languageModel.name}, layer {sae.layer}
        </p>
      )}
      <PromptCard {...{ settings, change }} error={errorAt("prompts")} onLook={look} onRun={run} />
      {looked && (
        <NeuronMapCard
          key={`${looked.chat} ${looked.prompt}`}
          {...{ saeId, looked, settings, change }}
          onLook={look}
        />
      )}
      <div className={styles.columns}>
        <EditsCard
          {...{ saeId, settings, change, neurons }}
          latentCount={sae?.latentCount}
          error={errorAt("steering")}
        >
          <SavedConfigs {...{ saeId, settings, change }} configs={configs ?? []} onDeleted={reload} />
          {settings.config && configs && !named && (
            <p className="muted">The saved edits that the link names are not there.</p>
          )}
        </EditsCard>
        <Card title="Generated text" aside={newest && <CopyLink run={newest} />}>
          <SamplingFields
            {...{ settings, change, errorAt }}
            maxNewTokens={data?.server.limits.maxNewTokens}
          />
          <div className="row">
            <button
              type="button"
              className="primary"
              onClick={run}
              disabled={settings.prompt === "" || isWaiting}
            >
              {isBusy ? "Start anew" : "Generate"}
            </button>
            {isBusy && (
              <button type="button" onClick={stop}>
                Stop
              </button>
            )}
            {settings.prompt === "" && <span className="muted">Write a prompt first.</span>}
          </div>
          {newest ? (
            <RunView key={newest.number} run={newest} onWhy={setAsked} {...{ saeId, nameOf }} />
          ) : (
            <p className="muted">
              With edits there are two texts, written together from the same seed: without and with them.
            </p>
          )}
        </Card>
      </div>
      <WhyCard
        {...{ saeId, settings, asked }}
        onAsk={setAsked}
        onEdit={(edit) => change((before) => withEditInstead(before, edit))}
        onRun={run}
      />
      <EarlierRuns
        {...{ saeId, nameOf }}
        runs={earlier}
        onUse={(used) => change(({ ranking }) => ({ ...used, ranking }))}
        onWhy={setAsked}
      />
    </>
  );
}
