import styles from "./Sending.module.css";

interface SendingProps {
  upload: { sent: number | null; clear: () => void };
  what: string;
}

/** How much of a file has been sent, and what to do about it. */
export function Sending({ upload, what }: SendingProps) {
  const { sent, clear } = upload;
  if (sent === null) return <div role="status" />;
  return (
    <div role="status" className="row">
      <span>{sent < 1 ? `${what}: ${Math.floor(sent * 100)}% sent` : `${what}: the server reads it…`}</span>
      <progress className={styles.bar} max={1} value={sent < 1 ? sent : undefined} aria-label={what} />
      <button type="button" onClick={clear}>
        Stop
      </button>
    </div>
  );
}
