import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, type Ref, useEffect, useImperativeHandle, useRef } from "react";
import styles from "./VirtualRows.module.css";

/** More rows than this are never in the document. */
const MAX_ROWS = 60;

export interface VirtualRowsHandle {
  /** Scrolls to a row at once. */
  jumpTo: (index: number) => void;
}

interface VirtualRowsProps {
  label: string;
  /** Of all rows, loaded or not. */
  count: number;
  /** Pixels; all rows have the same height. */
  rowHeight: number;
  /** Pixels of the part that scrolls. */
  height: number;
  row: (index: number) => ReactNode;
  /** Tells which rows are shown, first and last, to load them. */
  onRange?: (first: number, last: number) => void;
  ref?: Ref<VirtualRowsHandle>;
}

/** A list of any length of which only what is seen is in the document. */
export function VirtualRows({ label, count, rowHeight, height, row, onRange, ref }: VirtualRowsProps) {
  const scroller = useRef<HTMLDivElement>(null);
  const seen = Math.ceil(height / rowHeight) + 1;
  const virtualizer = useVirtualizer({
    count,
    getScrollElement: () => scroller.current,
    estimateSize: () => rowHeight,
    overscan: Math.max(0, Math.min(8, Math.floor((MAX_ROWS - seen) / 2))),
  });
  useImperativeHandle(ref, () => ({
    jumpTo: (index) => virtualizer.scrollToIndex(index, { align: "start" }),
  }));
  const items = virtualizer.getVirtualItems();
  const first = items[0]?.index ?? 0;
  const last = items.at(-1)?.index ?? 0;
  useEffect(() => onRange?.(first, last), [onRange, first, last]);

  return (
    <div
      ref={scroller}
      className={styles.scroller}
      style={{ height }}
      tabIndex={0}
      role="list"
      aria-label={label}
    >
      <div className={styles.all} style={{ height: virtualizer.getTotalSize() }}>
        {items.map(({ index, start }) => (
          <div
            key={index}
            role="listitem"
            aria-setsize={count}
            aria-posinset={index + 1}
            className={styles.row}
            style={{ height: rowHeight, transform: `translateY(${start}px)` }}
          >
            {row(index)}
          </div>
        ))}
      </div>
    </div>
  );
}
