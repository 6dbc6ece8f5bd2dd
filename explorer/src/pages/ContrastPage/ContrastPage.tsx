import { useMemo } from "react";
import { Link, useParams, useSearchParams } from "wouter";
import { useData } from "../../api/hooks";
import { Card } from "../../components/Card";
import { Empty } from "../../components/Empty";
import { ErrorBox } from "../../components/ErrorBox";
import { PageHeading } from "../../components/PageHeading";
import { ContrastForm } from "./ContrastForm";
import { ContrastPageSaeQueryDocument } from "./ContrastPage.generated";
import { ContrastResult } from "./ContrastResult";
import { type Sets, searchOfSets, setsOf } from "./texts";

const NOTHING: Sets = { a: [], b: [] };

/** What neurons tell two sets of texts apart. The texts are in the address as far as they fit. */
export default function ContrastPage() {
  const { id: saeId = "" } = useParams();
  const [search, setSearch] = useSearchParams();
  const { data, problem, reload } = useData(ContrastPageSaeQueryDocument, { saeId });
  const sae = data?.sae;
  const link = new URLSearchParams(search);
  link.delete("neuron");
  const address = link.toString();
  const found = useMemo(() => setsOf(new URLSearchParams(address), window.sessionStorage), [address]);
  const sets = "sets" in found ? found.sets : NOTHING;

  const contrast = (next: Sets) =>
    setSearch(searchOfSets(next, window.sessionStorage, Date.now().toString(36)));
  const choose = (index: number) =>
    setSearch(
      (before) => {
        const next = new URLSearchParams(before);
        next.set("neuron", String(index));
        return next;
      },
      { replace: true },
    );
  const chosen = /^\d+$/.test(search.get("neuron") ?? "") ? Number(search.get("neuron")) : null;

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
      <PageHeading title={sae ? `Contrast texts by ${sae.name}` : "Contrast texts"}>
        <Link href={`/saes/${saeId}`}>All its neurons</Link>
        <Link href={`/saes/${saeId}/play`}>Playground</Link>
      </PageHeading>
      {problem && <ErrorBox problem={problem} onRetry={reload} />}
      {sae && (
        <p className="muted">
          {sae.languageModel.name}, layer {sae.layer}
        </p>
      )}
      <Card title="Two sets of texts">
        <ContrastForm
          key={address}
          sets={sets}
          maxPrompts={data?.server.limits.maxPrompts}
          onContrast={contrast}
        />
        {found.state === "kept" && (
          <p className="muted">
            These texts are too long for a link: the address shows them in this browser tab only.
          </p>
        )}
        {found.state === "lost" && (
          <p role="alert">
            The texts of this link were too long for it, and are in another browser tab only.
          </p>
        )}
      </Card>
      {sets.a.length > 0 && sets.b.length > 0 && (
        <ContrastResult key={address} {...{ saeId, sets, chosen }} onChoose={choose} />
      )}
    </>
  );
}
