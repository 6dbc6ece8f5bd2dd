import { useLayoutEffect, useRef } from "react";
import type { LogLine } from "../../api/jobFeed";
import { Card } from "../../components/Card";
import { CopyButton } from "../../components/CopyButton";
import { clock } from "../../components/numbers";
import styles from "./JobLog.module.css";

interface JobLogProps {
  lines: readonly LogLine[];
  /** Events up to this number are no longer kept. */
  removedThrough: number;
}

/** The newest lines; the view stays at the end while it is there. */
export function JobLog({ lines, removedThrough }: JobLogProps) {
  const view = useRef<HTMLElement>(null);
  const isAtEnd = useRef(true);
  const last = lines.at(-1)?.sequence;
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new line moves the view.
  useLayoutEffect(() => {
    if (view.current && isAtEnd.current) view.current.scrollTop = view.current.scrollHeight;
  }, [last]);
  const text = lines.map(({ at, message }) => `${at} ${message}`).join("\n");
  return (
    <Card title="Log" aside={lines.length > 0 && <CopyButton text={text} />}>
      {lines.length === 0 ? (
        <p className="muted">{removedThrough > 0 ? "The log is no longer kept." : "Nothing yet."}</p>
      ) : (
        <section
          ref={view}
          className={styles.log}
          tabIndex={0}
          aria-label="Log lines"
          onScroll={({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) => {
            isAtEnd.current = scrollTop + clientHeight >= scrollHeight - 8;
          }}
        >
          {lines.map(({ sequence, at, message }) => (
            <div key={sequence} data-sequence={sequence} className={styles.line}>
              <time dateTime={at}>{clock(at)}</time>
              <span>{message}</span>
            </div>
          ))}
        </section>
      )}
    </Card>
  );
}
