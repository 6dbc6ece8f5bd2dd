import styles from "./Key.module.css";

/** A key that does what it stands beside. */
export function Key({ name }: { name: string }) {
  return <kbd className={styles.key}>{name}</kbd>;
}
