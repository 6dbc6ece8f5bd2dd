import type { ReactNode } from "react";
import type { Answer } from "../api/hooks";
import styles from "./DataTable.module.css";
import { ErrorBox } from "./ErrorBox";

export interface Column<Row> {
  key: string;
  title: ReactNode;
  cell: (row: Row) => ReactNode;
  /** Numbers stand at the right. */
  numeric?: boolean;
  sortable?: boolean;
}

export interface Sort {
  key: string;
  descending: boolean;
}

interface DataTableProps<Row> {
  caption: string;
  columns: readonly Column<Row>[];
  /** Undefined while nothing has been loaded. */
  rows: readonly Row[] | undefined;
  rowKey: (row: Row, place: number) => string;
  /** Shown in place of a table without rows. */
  empty: ReactNode;
  /** An answer of useData, for its states. */
  answer?: Pick<Answer<unknown>, "problem" | "reload">;
  sort?: Sort;
  onSort?: (sort: Sort) => void;
}

/** A table with its states: loading, failed, empty, filled. It scrolls by itself where the screen is narrow. */
export function DataTable<Row>(props: DataTableProps<Row>) {
  const { caption, columns, rows, rowKey, empty, answer, sort, onSort } = props;
  const problem = answer?.problem && <ErrorBox problem={answer.problem} onRetry={answer.reload} />;
  if (!rows) return problem ?? <p className="muted">Loading…</p>;
  if (rows.length === 0) return problem ?? empty;
  return (
    <>
      {problem}
      <section className={styles.scroll} aria-label={`Table: ${caption}`} tabIndex={0}>
        <table className={styles.table}>
          <caption className="hidden-visually">{caption}</caption>
          <thead>
            <tr>
              {columns.map((column) => (
                <HeaderCell key={column.key} column={column} sort={sort} onSort={onSort} />
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row, place) => (
              <tr key={rowKey(row, place)}>
                {columns.map(({ key, cell, numeric }) => (
                  <td key={key} className={numeric ? styles.numeric : undefined}>
                    {cell(row)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </>
  );
}

interface HeaderCellProps<Row> {
  column: Column<Row>;
  sort: Sort | undefined;
  onSort: ((sort: Sort) => void) | undefined;
}

function HeaderCell<Row>({ column, sort, onSort }: HeaderCellProps<Row>) {
  const { key, title, numeric, sortable } = column;
  const className = numeric ? styles.numeric : undefined;
  if (!sortable || !onSort) {
    return (
      <th scope="col" className={className}>
        {title}
      </th>
    );
  }
  const isSorted = sort?.key === key;
  const descending = isSorted && sort.descending;
  return (
    <th
      scope="col"
      className={className}
      aria-sort={isSorted ? (descending ? "descending" : "ascending") : undefined}
    >
      <button
        type="button"
        className={styles.sort}
        onClick={() => onSort({ key, descending: isSorted ? !descending : Boolean(numeric) })}
      >
        {title}
        <span aria-hidden="true">{isSorted ? (descending ? "↓" : "↑") : "↕"}</span>
      </button>
    </th>
  );
}
