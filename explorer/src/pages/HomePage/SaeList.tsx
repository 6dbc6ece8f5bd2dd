import { useCallback, useEffect, useState } from "react";
import { useSearchParams } from "wouter";
import { useData } from "../../api/hooks";
import { ErrorBox } from "../../components/ErrorBox";
import { whole } from "../../components/numbers";
import { type HomePageQuery, type HomePageSaesQuery, HomePageSaesQueryDocument } from "./HomePage.generated";
import { SaeTable } from "./SaeTable";
import { sorted, sortOf } from "./saeRows";

type Page = HomePageSaesQuery["saes"];

/** The newest SAEs, and earlier ones page by page; those that are loaded can be sorted. */
export function SaeList({ first }: { first: HomePageQuery["saes"] | undefined }) {
  const [address, setAddress] = useSearchParams();
  const [cursors, setCursors] = useState<readonly string[]>([]);
  const [later, setLater] = useState<Readonly<Record<string, Page>>>({});
  const onPage = useCallback(
    (after: string, page: Page) => setLater((all) => ({ ...all, [after]: page })),
    [],
  );
  const pages = [first, ...cursors.map((cursor) => later[cursor])].filter((page) => page !== undefined);
  // A page may move on while another one is made: each SAE stands once.
  const rows = [...new Map(pages.flatMap(({ nodes }) => nodes).map((sae) => [sae.id, sae])).values()];
  const end = pages.at(-1)?.pageInfo;
  const cursor = end?.hasNextPage ? end.endCursor : null;
  const sort = sortOf(address.get("sort"));
  return (
    <>
      <SaeTable
        rows={first && sorted(rows, sort)}
        {...(sort && { sort })}
        onSort={({ key, descending }) =>
          setAddress({ sort: `${descending ? "-" : ""}${key}` }, { replace: true })
        }
      />
      {cursors.map((after) => (
        <Earlier key={after} after={after} onPage={onPage} />
      ))}
      {first && cursor && !cursors.includes(cursor) && (
        <div className="row">
          <button type="button" onClick={() => setCursors([...cursors, cursor])}>
            Show more
          </button>
          <span className="muted">
            {whole(rows.length)} of {whole(first.totalCount)}, and sorted among themselves
          </span>
        </div>
      )}
    </>
  );
}

interface EarlierProps {
  after: string;
  onPage: (after: string, page: Page) => void;
}

/** Keeps a page of the list true. */
function Earlier({ after, onPage }: EarlierProps) {
  const { data, problem, reload } = useData(HomePageSaesQueryDocument, { after });
  useEffect(() => {
    if (data) onPage(after, data.saes);
  }, [data, after, onPage]);
  return problem && <ErrorBox problem={problem} onRetry={reload} />;
}
