import { type ReactNode, useEffect, useRef, useState } from "react";
import { Empty } from "../../components/Empty";
import { ErrorBox } from "../../components/ErrorBox";
import { VirtualRows, type VirtualRowsHandle } from "../../components/VirtualRows";
import styles from "./NeuronTable.module.css";
import type { Pages } from "./useNeuronPages";

const ROW_HEIGHT = 54;

interface NeuronTableProps<Row> {
  label: string;
  pages: Pages<Row>;
  /** Says which list it is: another one begins at its top. */
  listKey: string;
  /** Of the row to begin with. */
  startAt?: number;
  /** Tells which row is at the top once somebody has stopped scrolling. */
  onPlace?: (row: number) => void;
  head: ReactNode;
  row: (row: Row) => ReactNode;
  empty: { text: string; href?: string; label?: string };
}

const PLACE_MS = 400;

/** All rows of a list of neurons; those in sight are loaded. */
export function NeuronTable<Row>(props: NeuronTableProps<Row>) {
  const { label, pages, listKey, startAt = 0, onPlace, head, row, empty } = props;
  const { rowAt, onRange, problem, reload } = pages;
  const rows = useRef<VirtualRowsHandle>(null);
  const [height] = useState(
    () => Math.round(Math.min(810, Math.max(324, window.innerHeight * 0.7)) / 54) * 54,
  );
  // While the next list is loading, what is known of its length is the last one's.
  const known = useRef(pages.count);
  if (pages.count !== null) known.current = pages.count;
  const count = known.current;
  const isThere = count !== null && count > 0;

  const shownKey = useRef(listKey);
  useEffect(() => {
    if (shownKey.current === listKey) return;
    shownKey.current = listKey;
    rows.current?.jumpTo(0);
  }, [listKey]);
  const firstPlace = useRef(startAt);
  useEffect(() => {
    if (isThere && firstPlace.current > 0) rows.current?.jumpTo(firstPlace.current);
    if (isThere) firstPlace.current = 0;
  }, [isThere]);

  const place = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(place.current), []);
  const tellRange = useRef((_first: number, _last: number) => {});
  tellRange.current = (first, last) => {
    onRange(first, last);
    clearTimeout(place.current);
    if (firstPlace.current === 0) place.current = setTimeout(() => onPlace?.(first), PLACE_MS);
  };
  const [tell] = useState(() => (first: number, last: number) => tellRange.current(first, last));

  if (problem) return <ErrorBox problem={problem} onRetry={reload} />;
  if (count === null) return <p className="muted">Loading…</p>;
  if (count === 0) {
    return (
      <Empty {...(empty.href && empty.label && { next: { href: empty.href, label: empty.label } })}>
        {empty.text}
      </Empty>
    );
  }
  return (
    <div>
      <div className={styles.head}>{head}</div>
      <VirtualRows
        ref={rows}
        label={label}
        count={count}
        rowHeight={ROW_HEIGHT}
        height={Math.min(height, count * ROW_HEIGHT)}
        onRange={tell}
        row={(index) => {
          const found = rowAt(index);
          return found === undefined ? <div className={styles.loading} /> : row(found);
        }}
      />
    </div>
  );
}
