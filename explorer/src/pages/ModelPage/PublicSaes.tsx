import { useDeferredValue, useState } from "react";
import { useData } from "../../api/hooks";
import { TextField } from "../../components/controls";
import { type Column, DataTable } from "../../components/DataTable";
import { NumberText } from "../../components/NumberText";
import { whole } from "../../components/numbers";
import { ModelPagePublicSaesQueryDocument } from "./ImportCard.generated";
import { type PublicSae, placeOf, type Wanted, wantedOf } from "./wanted";

interface PublicSaesProps {
  modelId: string;
  onImport: (wanted: Wanted) => void;
  disabled: boolean;
}

/** SAEs of the Hub for this model, page by page, to take over. */
export function PublicSaes({ modelId, onImport, disabled }: PublicSaesProps) {
  const [search, setSearch] = useState("");
  const [cursors, setCursors] = useState<readonly string[]>([]);
  const words = useDeferredValue(search.slice(0, 200));
  const answer = useData(
    ModelPagePublicSaesQueryDocument,
    { id: modelId, search: words, after: cursors.at(-1) ?? null },
    { policy: "cache-first" },
  );
  const found = answer.data?.publicSaes;
  if (found?.totalCount === 0 && words === "") {
    return <p className="muted">No public SAE is known here for a model of this name.</p>;
  }
  const columns: Column<PublicSae>[] = [
    {
      key: "name",
      title: "SAE",
      cell: (sae) => (
        <>
          {sae.name} <span className="muted">{sae.release}</span>
        </>
      ),
    },
    { key: "place", title: "Place", cell: placeOf },
    {
      key: "neurons",
      title: "Neurons",
      numeric: true,
      cell: (sae) => <NumberText value={sae.latentCount} format={whole} />,
    },
    { key: "l0", title: "L0", numeric: true, cell: (sae) => <NumberText value={sae.l0} format={whole} /> },
    {
      key: "import",
      title: "Import",
      cell: (sae) =>
        sae.refusal ? (
          <span className="muted">{sae.refusal}</span>
        ) : (
          <button
            type="button"
            disabled={disabled}
            aria-label={`Import ${sae.name} of ${sae.release}`}
            onClick={() => onImport(wantedOf(sae))}
          >
            Import
          </button>
        ),
    },
  ];
  return (
    <div className="stack">
      <TextField
        type="search"
        label="Find a public SAE"
        hint="Words of its release, layer, width: res layer_12 16k"
        value={search}
        onChange={(text) => {
          setSearch(text);
          setCursors([]);
        }}
      />
      <DataTable
        caption="Public SAEs for this model"
        columns={columns}
        rows={found?.nodes}
        rowKey={(sae) => `${sae.release}/${sae.name}`}
        answer={answer}
        empty={<p className="muted">None has these words.</p>}
      />
      {found && (
        <div className="row">
          <button
            type="button"
            disabled={cursors.length === 0}
            onClick={() => setCursors(cursors.slice(0, -1))}
          >
            Previous
          </button>
          <button
            type="button"
            disabled={!found.pageInfo.hasNextPage}
            onClick={() => found.pageInfo.endCursor && setCursors([...cursors, found.pageInfo.endCursor])}
          >
            Next
          </button>
          <span className="muted">{whole(found.totalCount)} in all, on the Hugging Face Hub</span>
        </div>
      )}
    </div>
  );
}
