import type { ReactNode } from "react";
import styles from "./Properties.module.css";

export type Property = readonly [name: string, value: ReactNode];

/** Names and values, in columns where there is room. */
export function Properties({ of }: { of: readonly Property[] }) {
  return (
    <dl className={styles.properties}>
      {of.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
