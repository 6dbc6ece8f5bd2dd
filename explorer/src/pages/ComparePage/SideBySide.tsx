import { Link } from "wouter";
import { type Column, DataTable } from "../../components/DataTable";
import type { ComparedSae, Fact } from "./facts";

interface SideBySideProps {
  caption: string;
  saes: readonly ComparedSae[];
  facts: readonly Fact[];
}

/** A row for each fact, a column for each SAE. */
export function SideBySide({ caption, saes, facts }: SideBySideProps) {
  const columns: Column<Fact>[] = [
    { key: "name", title: "", cell: ({ name }) => <span className="muted">{name}</span> },
    ...saes.map(({ id, name }, place) => ({
      key: id,
      title: <Link href={`/saes/${id}`}>{name}</Link>,
      cell: ({ values, best }: Fact) => {
        const value = values[place];
        if (value === null || value === undefined) return <span className="muted">–</span>;
        return best.includes(place) ? <strong title="The best of these">{value}</strong> : value;
      },
    })),
  ];
  return (
    <DataTable
      caption={caption}
      columns={columns}
      rows={facts}
      rowKey={({ name }) => name}
      empty={<p className="muted">All are alike.</p>}
    />
  );
}
