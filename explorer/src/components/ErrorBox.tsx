import type { Problem } from "../api/problems";
import styles from "./ErrorBox.module.css";

interface ErrorBoxProps {
  problem: Problem;
  onRetry?: () => void;
}

/** What the API said, where, and when to try again. */
export function ErrorBox({ problem, onRetry }: ErrorBoxProps) {
  const { title, message, fields, retryAfter } = problem;
  return (
    <div role="alert" className={styles.box}>
      <strong>{title}</strong>
      <p>{message}</p>
      {fields.length > 0 && (
        <ul className={styles.fields}>
          {fields.map(({ path, message: why }) => (
            <li key={path + why}>
              <code>{path}</code>
              {why && `: ${why}`}
            </li>
          ))}
        </ul>
      )}
      {retryAfter !== null && <p>Try again in {retryAfter} seconds.</p>}
      {onRetry && (
        <p>
          <button type="button" onClick={onRetry}>
            Try again
          </button>
        </p>
      )}
    </div>
  );
}
